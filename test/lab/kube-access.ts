/** Who may do what at the tests' API server: what a manifest's roles and admission policies say. */
import type { IncomingMessage } from 'node:http';
import { run as evaluate } from '@bufbuild/cel';
import type { ApiAccess, Refusal } from './kube-api.ts';
import type { Manifest, Rule } from './manifests.ts';

interface ApiUser {
  readonly account: string;
  /** The node of the pod that the token was made for. */
  readonly node: string;
}

interface Attributes {
  readonly verb: string;
  readonly group: string;
  /** With the subresource: `nodes/status`. */
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

/** The token that a pod of this service account has on this node; the node's name is among its claims. */
export const tokenOf = (account: string, node: string): string => `${account}@${node}`;

function userOf(request: IncomingMessage): ApiUser | undefined {
  const [, account, node] = /^Bearer ([^@]+)@(.+)$/.exec(request.headers.authorization ?? '') ?? [];
  return account === undefined || node === undefined ? undefined : { account, node };
}

/** As the API server derives them (staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go). */
function attributesOf(method: string, url: URL): Attributes {
  const parts = url.pathname.split('/').filter((part) => part !== '');
  const group = parts[0] === 'api' ? '' : parts[1]!;
  const rest = parts.slice(group === '' ? 2 : 3);
  const namespace = rest[0] === 'namespaces' && rest.length > 2 ? rest[1] : undefined;
  const [plural, name, sub] = namespace === undefined ? rest : rest.slice(2);
  const watches = url.searchParams.get('watch') === 'true';
  const reading = name === undefined ? (watches ? 'watch' : 'list') : 'get';
  const verb = method === 'GET' ? reading : method.toLowerCase();
  return { verb, group, resource: sub === undefined ? plural! : `${plural}/${sub}`, namespace, name };
}

function allows({ apiGroups, resources, resourceNames, verbs }: Rule, wanted: Attributes): boolean {
  return (
    apiGroups.includes(wanted.group) &&
    resources.includes(wanted.resource) &&
    verbs.includes(wanted.verb) &&
    (resourceNames === undefined || (wanted.name !== undefined && resourceNames.includes(wanted.name)))
  );
}

interface Grant {
  readonly account: string;
  readonly namespace: string | undefined;
  readonly rule: Rule;
}

/** One line for each verb of each resource that somebody is granted. */
function spell(account: string, verb: string, resource: string, namespace: string | undefined): string {
  return `${account}: ${verb} ${resource}${namespace === undefined ? '' : ` in ${namespace}`}`;
}

/** In the words of the API server (staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go). */
function forbidden({ account }: ApiUser, wanted: Attributes): string {
  const { verb, group, resource, namespace, name } = wanted;
  const what = name === undefined ? '' : ` "${name}"`;
  const where = namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`;
  const who = `User "system:serviceaccount:twill:${account}"`;
  return `${resource.split('/')[0]}${what} is forbidden: ${who} cannot ${verb} resource "${resource}" in API group "${group}" ${where}`;
}

export class ManifestAccess implements ApiAccess {
  /** What was asked for and not granted. */
  readonly refused: string[] = [];
  /** One of what is granted, which is refused for now. */
  withheld: string | undefined;
  private readonly asked = new Set<string>();
  private readonly grants: readonly Grant[];
  private readonly policies: readonly Manifest[];

  constructor(manifests: readonly Manifest[]) {
    this.grants = manifests
      .filter(({ kind }) => kind === 'ClusterRoleBinding' || kind === 'RoleBinding')
      .flatMap(({ subjects, roleRef, metadata: { namespace } }) => {
        const role = manifests.find(
          ({ kind, metadata }) =>
            kind === roleRef!.kind && metadata.name === roleRef!.name && metadata.namespace === namespace,
        );
        return subjects!.flatMap(({ name: account }) =>
          role!.rules!.map((rule) => ({ account, namespace, rule })),
        );
      });
    this.policies = manifests.filter(({ kind }) => kind === 'ValidatingAdmissionPolicy');
  }

  /** Everything that is granted, a line each. */
  granted(): string[] {
    const lines = this.grants.flatMap(({ account, namespace, rule }) =>
      rule.verbs.flatMap((verb) =>
        rule.resources.map((resource) => spell(account, verb, resource, namespace)),
      ),
    );
    return lines.sort();
  }

  /** What of it was asked for. */
  used(): string[] {
    return [...this.asked].sort();
  }

  authorize(request: IncomingMessage, url: URL): Refusal | undefined {
    const user = userOf(request);
    if (user === undefined) return { code: 401, message: 'Unauthorized' };
    const wanted = attributesOf(request.method ?? 'GET', url);
    const grant = this.grants.find(
      ({ account, namespace, rule }) =>
        account === user.account &&
        (namespace === undefined || namespace === wanted.namespace) &&
        allows(rule, wanted),
    );
    const line = spell(user.account, wanted.verb, wanted.resource, grant?.namespace);
    if (grant !== undefined && line !== this.withheld) {
      this.asked.add(line);
      return undefined;
    }
    this.refused.push(line);
    return { code: 403, message: forbidden(user, wanted) };
  }

  /** ValidatingAdmissionPolicies, by an interpreter of their language. */
  admit(request: IncomingMessage, url: URL, old: unknown, object: unknown): Refusal | undefined {
    const { account, node } = userOf(request)!;
    const { name } = attributesOf(request.method ?? '', url);
    const userInfo = {
      username: `system:serviceaccount:twill:${account}`,
      extra: { 'authentication.kubernetes.io/node-name': [node] },
    };
    const variables = { request: { name, userInfo }, object, oldObject: old } as Parameters<
      typeof evaluate
    >[1];
    for (const { spec } of this.policies) {
      if (!spec!.matchConditions!.every(({ expression }) => evaluate(expression, variables) === true))
        continue;
      for (const { expression, message } of spec!.validations!)
        if (evaluate(expression, variables) !== true) return { code: 422, message };
    }
    return undefined;
  }
}
