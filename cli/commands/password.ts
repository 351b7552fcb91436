import { command } from "../lib/command";
import { requiredOutputs, tenantOf } from "../lib/stack";

export const password = command(
  "password",
  "password of one tenant",
  "PGPASSWORD=$(./pgs password acme) psql …",
)
  .argument("<tenant>")
  .action(async (id: string) => {
    const { connectionStrings } = await requiredOutputs({ secrets: true });
    console.log(decodeURIComponent(new URL(tenantOf(connectionStrings, id)).password));
  });
