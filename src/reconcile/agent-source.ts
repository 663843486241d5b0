import type { AgentConfig } from '../config/agent.ts';
import type { Log } from '../config/log.ts';
import { EtcdSource } from './etcd-source.ts';
import { KubeSource } from './kube-source.ts';
import type { LeaseSource } from './lease-source.ts';

/** The source of leases that the flags choose. @throws TwillError `invalid` */
export function openSource(config: AgentConfig, log: Log): LeaseSource {
  const text = (name: string, value: string | undefined) => (value === undefined ? {} : { [name]: value });
  if (config.kubeSubnetManager) {
    return new KubeSource({
      client: { kubeconfig: config.kubeConfigFile, master: config.kubeApiUrl },
      annotationPrefix: config.kubeAnnotationPrefix,
      netConfigPath: config.netConfigPath,
      setNodeNetworkUnavailable: config.setNodeNetworkUnavailable,
      log,
    });
  }
  return new EtcdSource(
    {
      endpoints: config.etcdEndpoints,
      prefix: config.etcdPrefix,
      ...text('caFile', config.etcdCaFile),
      ...text('certFile', config.etcdCertFile),
      ...text('keyFile', config.etcdKeyFile),
      ...text('username', config.etcdUsername),
      ...text('password', config.etcdPassword),
    },
    config.leaseRenewMarginSeconds,
    log,
  );
}
