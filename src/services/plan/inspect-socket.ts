/** Where the proxy answers `twill status` and the like, unless `--inspect-socket` says otherwise. */
export const defaultProxySocket = '/run/twill/proxy.sock';
