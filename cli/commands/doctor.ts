import { command, exitNote } from "../lib/command";
import { doctor as examine } from "../lib/doctor";

export const doctor = exitNote(
  command(
    "doctor",
    "check engine, DNS, port, certificate, drift, logins and backups, and advise",
    "./pgs doctor",
    "./pgs doctor --quick --json",
  )
    .option("--json", "for programs")
    .option("--quick", "without the search for drift, which is a whole preview")
    .action(async (options: { json?: boolean; quick?: boolean }) => {
      process.exitCode = (await examine(options)) ? 0 : 1;
    }),
  "when it finds a problem",
);
