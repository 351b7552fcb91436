import { command, roleOption } from "../lib/command";
import { connectionStringOf, requiredOutputs } from "../lib/stack";

export const password = command(
  "password",
  "password of one tenant",
  "PGPASSWORD=$(./pgs password acme) psql …",
  "./pgs password acme --role app",
)
  .argument("<tenant>")
  .option(...roleOption)
  .action(async (id: string, { role }: { role?: string }) => {
    const outputs = await requiredOutputs({ secrets: true });
    console.log(decodeURIComponent(connectionStringOf(outputs, id, role).password));
  });
