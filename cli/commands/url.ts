import { dockerHostAddress, resolve } from "../lib/address";
import { command } from "../lib/command";
import { requiredOutputs, stackConfig, tenantOf } from "../lib/stack";

export const url = command("url", "connection string of one tenant, with its password", "./pgs url acme")
  .argument("<tenant>")
  .action(async (id: string) => {
    const [{ connectionStrings, tenants }, { dockerHost }] = await Promise.all([
      requiredOutputs({ secrets: true }),
      stackConfig(),
    ]);
    const connection = new URL(tenantOf(connectionStrings, id));
    const { host } = tenantOf(tenants, id);
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
