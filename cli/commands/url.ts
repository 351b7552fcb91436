import { dockerHostAddress, resolve } from "../lib/address";
import { command, roleOption } from "../lib/command";
import { connectionStringOf, requiredOutputs, stackConfig, tenantOf } from "../lib/stack";

export const url = command(
  "url",
  "connection string of one tenant, with its password",
  "./pgs url acme",
  "./pgs url acme --role app",
)
  .argument("<tenant>")
  .option(...roleOption)
  .action(async (id: string, { role }: { role?: string }) => {
    const [outputs, { dockerHost }] = await Promise.all([requiredOutputs({ secrets: true }), stackConfig()]);
    const connection = connectionStringOf(outputs, id, role);
    const { host } = tenantOf(outputs.tenants, id);
    if ((await resolve(host)).length === 0) {
      const address = await dockerHostAddress(dockerHost);
      if (address) connection.searchParams.set("hostaddr", address);
      if (process.stderr.isTTY)
        console.error(
          `${host} does not resolve here, so hostaddr gives its address: only libpq's clients know it.`,
        );
    }
    console.log(connection.href);
  });
