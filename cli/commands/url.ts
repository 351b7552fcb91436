import { dockerHostAddress, resolve } from "../lib/address";
import { command, roleOption } from "../lib/command";
import { connectionStringOf, requiredOutputs, stackConfig, tenantOf } from "../lib/stack";

export const url = command(
  "url",
  "connection string of one tenant, with its password",
  "./pgs url acme",
  "./pgs url acme --role app",
  "DATABASE_URL=$(./pgs url acme --from-container) docker run -e DATABASE_URL --add-host acme.pgs.localhost:host-gateway …",
)
  .argument("<tenant>")
  .option(...roleOption)
  .option("--from-container", "for a container on the same Docker host, with the hostname as an extra host")
  .action(async (id: string, { role, fromContainer }: { role?: string; fromContainer?: boolean }) => {
    const [outputs, { dockerHost }] = await Promise.all([requiredOutputs({ secrets: true }), stackConfig()]);
    const connection = connectionStringOf(outputs, id, role);
    const { host } = tenantOf(outputs.tenants, id);
    const hint = (text: string) => process.stderr.isTTY && console.error(text);
    if (fromContainer) {
      hint(
        `For docker run: --add-host ${host}:host-gateway\nIn a compose file: extra_hosts: ["${host}:host-gateway"]`,
      );
    } else if ((await resolve(host)).length === 0) {
      const address = await dockerHostAddress(dockerHost);
      if (address) connection.searchParams.set("hostaddr", address);
      hint(`${host} does not resolve here, so hostaddr gives its address: only libpq's clients know it.`);
    }
    console.log(connection.href);
  });
