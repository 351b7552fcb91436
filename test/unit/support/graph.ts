import type Docker from "dockerode";
import { expect } from "vitest";
import { parse } from "yaml";
import { type ContainerInputs, specOf } from "../../../provider/container";
import { type ContainerSpec, createOptions } from "../../../provider/container/reconcile";
import type { PostgresServerInputs } from "../../../provider/server/inputs";
import { serverContainer } from "../../../provider/server/parts/container";
import { unwrap } from "../../../provider/wire";
import { type Graph, type Registration, runProgram } from "./program";
import { isSecret, plain } from "./wire";

export const types = {
  acme: "pgs:index:AcmeCertificate",
  backups: "pgs:index:Backups",
  cancel: "pgs:index:CancelRequests",
  certificate: "pgs:index:WildcardCertificate",
  container: "pgs:index:Container",
  destination: "pgs:index:BackupDestination",
  file: "pgs:index:TraefikFile",
  image: "docker:index/remoteImage:RemoteImage",
  images: "pgs:index:PostgresImages",
  password: "random:index/randomPassword:RandomPassword",
  platform: "pgs:index:Platform",
  programs: "pgs:index:Programs",
  provider: "pulumi:providers:pgs",
  proxy: "pgs:index:PostgresProxy",
  randomId: "random:index/randomId:RandomId",
  restore: "pgs:index:Restore",
  server: "pgs:index:PostgresServer",
  stack: "pulumi:pulumi:Stack",
  suffix: "random:index/randomString:RandomString",
  tenant: "pgs:index:PgTenant",
  volume: "docker:index/volume:Volume",
} as const;

type Kind = keyof typeof types;

export function find(graph: Graph, kind: Kind, name = "acme"): Registration {
  const found = graph.resources.filter((one) => one.type === types[kind] && one.name === name);
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0] as Registration;
}

export function ofKind(graph: Graph, kind: Kind): Registration[] {
  return graph.resources.filter(({ type }) => type === types[kind]);
}

/** `TYPE NAME` of the resources below one, sorted. */
export function childrenOf(graph: Graph, kind: Kind, name: string): string[] {
  return graph.resources
    .filter((one) => one.parent === `${types[kind]} ${name}`)
    .map((one) => `${one.type} ${one.name}`)
    .sort();
}

/** One tenant, acme, with these fields in YAML's one-line form. */
export function runTenant(fields = "", config: Record<string, string> = {}): Promise<Graph> {
  return runProgram(`tenants: { acme: { ${fields} } }`, config);
}

/** A server's inputs as its provider gets them: plain. */
export function serverOf(graph: Graph, id = "acme"): PostgresServerInputs {
  return unwrap(find(graph, "server", id).inputs) as PostgresServerInputs;
}

/** What the engine is told of a tenant's container. */
export function serverOptions(graph: Graph, id = "acme"): Docker.ContainerCreateOptions {
  return optionsOf(serverContainer(serverOf(graph, id)));
}

/** What the engine is told of another container of the stack. */
export function containerOptions(graph: Graph, name: string): Docker.ContainerCreateOptions {
  return optionsOf(specOf(unwrap(find(graph, "container", name).inputs) as ContainerInputs));
}

function optionsOf(spec: ContainerSpec): Docker.ContainerCreateOptions {
  return createOptions(spec, spec.image);
}

export interface Route {
  tcp: {
    routers: Record<string, Record<string, unknown>>;
    middlewares?: Record<string, { inFlightConn: { amount: number } }>;
    services: Record<string, { loadBalancer: { servers: { address: string }[] } }>;
  };
}

/** A tenant's route as Traefik reads it; null when it is closed. */
export function routeOf(graph: Graph, id = "acme"): Route | null {
  return parse(serverOf(graph, id).route.content);
}

export function connectionString(graph: Graph, id = "acme"): string | undefined {
  return plain<Record<string, string>>(graph.outputs.connectionStrings)[id];
}

/** All inputs and outputs as text, with nothing in it that goes over the wire as a secret. */
export function inTheClear(graph: Graph): string {
  return JSON.stringify([graph.resources.map(({ inputs }) => inputs), graph.outputs], (_, value) =>
    isSecret(value) ? "[secret]" : value,
  );
}
