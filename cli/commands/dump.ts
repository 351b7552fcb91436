import { runClientProgram } from "../lib/client-program";
import { command } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import { tenantLogin } from "../lib/tenant-login";
import { Transfer } from "../lib/transfer";

export const dump = command(
  "dump",
  "dump a tenant's database to standard output; what follows -- goes to pg_dump",
  "./pgs dump acme > acme.dump",
  "./pgs dump acme --plain | gzip > acme.sql.gz",
  "./pgs dump acme -- --schema=app > app.dump",
)
  .argument("<tenant>")
  .argument("[pg_dump-options...]", "as for pg_dump")
  .option("--plain", "SQL instead of pg_dump's custom format")
  .action(dumpTenant);

/** By pg_dump of the tenant's own image, which is at least the server's version. */
async function dumpTenant(id: string, options: string[], { plain }: { plain?: boolean }): Promise<void> {
  if (process.stdout.isTTY) {
    // What the tenant wrote into its database could steer the terminal.
    throw new CommandError(
      `a dump is nothing for a terminal: ./pgs dump ${id} > ${id}.dump, or ./pgs dump ${id} --plain | less`,
      2,
    );
  }
  const login = await tenantLogin(id, undefined, "any");
  const program = {
    program: "pg_dump",
    // In SQL, verbose would leave comments.
    args: (connection: string) => [
      `--dbname=${connection}`,
      ...(plain ? ["--format=plain"] : ["--format=custom", "--verbose"]),
      ...options,
    ],
  };
  const transfer = new Transfer(undefined, /^pg_dump: dumping contents of table "(.*)"$/);
  // Each write tells of its own failure.
  process.stdout.on("error", () => {});
  const output = (chunk: Buffer) => {
    transfer.bytes += chunk.length;
    return new Promise<void>((resolve, reject) =>
      process.stdout.write(chunk, (error) => (error ? reject(error) : resolve())),
    );
  };
  try {
    const code = await runClientProgram(login, program, { output, line: (text) => transfer.line(text) });
    if (code !== 0) throw new CommandError(`pg_dump ended with ${code}`, code);
    if (transfer.bytes === 0) throw new CommandError("pg_dump wrote nothing to standard output");
    console.error(`${id}: dumped ${transfer.end()}`);
  } catch (error) {
    transfer.stop();
    const { message } = error as Error;
    const exitCode = error instanceof CommandError ? error.exitCode : 1;
    throw new CommandError(`${message}: what was written is no whole dump, delete it`, exitCode);
  }
}
