import { dockerHostAddress, proxyHost, resolve } from "../lib/address";
import { command, roleOption } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import { connectionStringOf, requireDocker, requiredOutputs, stackConfig, tenantOf } from "../lib/stack";

export const url = command(
  "url",
  "connection string of one tenant, with its password",
  "./pgs url acme",
  "./pgs url acme --role app --pooler",
  "DATABASE_URL=$(./pgs url acme --from-container) docker run -e DATABASE_URL --add-host acme.pgs.localhost:host-gateway …",
)
  .argument("<tenant>")
  .option(...roleOption)
  .option("--pooler", "of its pooler")
  .option("--from-container", "for a container on the same Docker host, with the hostname as an extra host")
  .action(async (id: string, options: { role?: string; pooler?: boolean; fromContainer?: boolean }) => {
    const [outputs, config] = await Promise.all([requiredOutputs({ secrets: true }), stackConfig("any")]);
    if (options.fromContainer) requireDocker(config, "url --from-container");
    const connection = connectionStringOf(outputs, id, options.role);
    const tenant = tenantOf(outputs.tenants, id);
    const host = options.pooler ? tenant.pooler : tenant.host;
    if (host === undefined)
      throw new CommandError(`${id} has no pooler: ./pgs set ${id} pooler {} (docs/pooler.md)`, 2);
    connection.hostname = host;
    const hint = (text: string) => process.stderr.isTTY && console.error(text);
    if (options.fromContainer) {
      hint(
        `For docker run: --add-host ${host}:host-gateway\nIn a compose file: extra_hosts: ["${host}:host-gateway"]`,
      );
    } else if ((await resolve(host)).length === 0) {
      const address = await dockerHostAddress(await proxyHost(config));
      if (address) connection.searchParams.set("hostaddr", address);
      hint(`${host} does not resolve here, so hostaddr gives its address: only libpq's clients know it.`);
    }
    console.log(connection.href);
  });
