import { resolve } from "node:path";
import { type ImportOptions, importCompose } from "../compose-import";
import { command } from "../lib/command";

export const importFile = command(
  "import",
  "move the servers of a compose file in as tenants, keeping their data in place",
  "./pgs import ../old/docker-compose.yml --dry-run",
)
  .argument("<compose-file>")
  .option("--dry-run", "only report what would be done")
  .option("--no-up", "leave the up for later")
  .option("-y, --yes", "do not ask")
  .action((file: string, options: ImportOptions) =>
    importCompose(resolve(process.env.PGS_CALLED_FROM ?? "", file), options),
  );
