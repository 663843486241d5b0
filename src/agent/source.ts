import { EtcdSource } from '../leases/etcd/source.ts';
import { KubeSource } from '../leases/kubernetes/source.ts';
import type { LeaseSource } from '../leases/plan/source.ts';
import type { Log } from '../process/log.ts';
import type { AgentConfig } from './config.ts';

/** The source of leases that the flags choose. @throws TwillError `invalid` */
export function openSource(config: AgentConfig, log: Log): LeaseSource {
  const text = (name: string, value: string | undefined) => (value === undefined ? {} : { [name]: value });
  if (config.kubeSubnetManager) {
    return new KubeSource({
      client: {
        kubeconfig: config.kubeConfigFile,
        master: config.kubeApiUrl,
        kubeletKubeconfigs: config.kubeletKubeconfigs,
      },
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
      ...text('passwordFile', config.etcdPasswordFile),
    },
    config.leaseRenewMarginSeconds,
    log,
  );
}
