import type Docker from "dockerode";

/** Id of the user postgres in the images. */
export const postgresUser = 999;

/**
 * What every container has: no capability, no way to more rights, a root that cannot be written to, a log that cannot
 * fill the disk. https://docs.docker.com/reference/api/engine/version/v1.41/
 */
export const hardened: Docker.HostConfig = {
  ReadonlyRootfs: true,
  CapDrop: ["ALL"],
  SecurityOpt: ["no-new-privileges:true"],
  LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } },
};

/**
 * No name outside of its networks is looked up: engines before 23.0.11 and 25.0.4 would ask the host's own resolver,
 * which is a way out.
 */
export const withoutNames: Docker.HostConfig = {
  Dns: ["0.0.0.0"],
  DnsOptions: ["timeout:1", "attempts:1"],
};
