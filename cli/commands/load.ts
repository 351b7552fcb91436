import { randomBytes } from "node:crypto";
import { fstatSync } from "node:fs";
import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import {
  headBytes,
  isArchive,
  isGzip,
  isPlainDump,
  isWhole,
  leavesDatabase,
  withoutCreate,
} from "../../tenants/dump-file";
import { runClientProgram } from "../lib/client-program";
import type { ClientStreams } from "../lib/client-stream";
import { command } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import { serverOf, type TenantLogin, tenantLogin } from "../lib/tenant-login";
import { Transfer } from "../lib/transfer";

export const load = command(
  "load",
  "load a dump or SQL from standard input into a tenant's database: all of it, or nothing",
  "./pgs load acme < acme.dump",
  "./pgs load acme < acme.sql.gz",
  "./pgs load acme -- --no-owner --no-privileges < other.dump",
)
  .argument("<tenant>")
  .argument("[pg_restore-options...]", "as for pg_restore, or for SQL as for psql")
  .option("--into-existing", "also into a database that has tables already")
  .action(loadDump);

/**
 * All of it or nothing: in one transaction, which is committed only when the end was reached. By pg_restore or psql of the
 * tenant's own image.
 */
async function loadDump(id: string, options: string[], flags: { intoExisting?: boolean }): Promise<void> {
  if (process.stdin.isTTY)
    throw new CommandError(`no dump on standard input: ./pgs load ${id} < ${id}.dump`, 2);
  const transfer = new Transfer(sizeOf(0), /^pg_restore: processing data for table "(.*)"$/);
  /** Until psql gets its end, it commits nothing; pg_restore needs no end. */
  let commits = false;
  const token = randomBytes(16).toString("hex");
  try {
    requireLoading(options);
    const login = await tenantLogin(id, undefined, "any");
    const packed = await peeked(counted(process.stdin, transfer), 2);
    if (packed.head.length === 0) throw new CommandError("standard input is empty", 2);
    const source = isGzip(packed.head)
      ? pipeline(Readable.from(packed.all), createGunzip(), () => {})
      : packed.all;
    const { head, all } = await peeked(source, headBytes);
    const left = leavesDatabase(head);
    if (left) {
      throw new CommandError(
        `line ${left.line} of the dump is ${left.what}, which would load it elsewhere: ${withoutCreate}`,
        2,
      );
    }
    if (!flags.intoExisting) await requireEmpty(login);
    if (isArchive(head)) {
      commits = true;
      await restored(login, all, options, transfer);
    } else {
      const ending = async function* () {
        yield* script(all, isPlainDump(head));
        commits = true;
        yield Buffer.from(commit(token));
      };
      await executed(login, ending(), token, options, transfer);
    }
    console.error(`${id}: loaded ${transfer.end()}`);
  } catch (error) {
    const { message } = error as Error;
    const exitCode = error instanceof CommandError ? error.exitCode : 1;
    if (error instanceof CommandError && exitCode !== 130) throw error;
    const outcome = commits ? "look into the database whether it was loaded" : "nothing was loaded";
    throw new CommandError(`${message}: ${outcome}`, exitCode);
  } finally {
    transfer.stop();
    // A pipe that goes on must not keep the command.
    process.stdin.destroy();
  }
}

async function restored(
  login: TenantLogin,
  input: AsyncIterable<Buffer>,
  options: string[],
  transfer: Transfer,
): Promise<void> {
  let hint = "";
  const code = await run(
    login,
    "pg_restore",
    (connection) => [
      ...[`--dbname=${connection}`, "--single-transaction", "--exit-on-error", "--verbose"],
      ...options,
    ],
    {
      input,
      output: () => {},
      line: (text) => {
        hint ||= hintOf(login, text);
        transfer.line(text);
      },
    },
  );
  if (code === 0) return;
  throw new CommandError(`pg_restore ended with ${code}: nothing was loaded${hint}`, code);
}

/** What to do about an error, in words for the operator. */
function hintOf({ id, tenant }: TenantLogin, line: string): string {
  if (/role ".*" does not exist/.test(line))
    return `. Make the role first, or ./pgs load ${id} -- --no-owner --no-privileges leaves owners and rights out`;
  if (tenant.user !== "postgres" && /must be (owner|able)|permission denied/.test(line))
    return `. ${id} is no superuser, and something in the dump is one's: ./pgs load ${id} -- --no-owner --no-privileges --no-comments leaves that out, and for SQL the same options of pg_dump`;
  return "";
}

async function executed(
  login: TenantLogin,
  input: AsyncIterable<Buffer>,
  token: string,
  options: string[],
  transfer: Transfer,
): Promise<void> {
  let tail = "";
  let hint = "";
  const code = await run(
    login,
    "psql",
    (connection) => [
      ...["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"],
      // The lines of the file keep their numbers.
      ...[...options, "--command=BEGIN", `--command=SELECT set_config('pgs.load', ${transaction}, false)`],
      ...["--file=-", connection],
    ],
    {
      input,
      output: (chunk) => {
        tail = (tail + chunk.toString("latin1")).slice(-100);
      },
      line: (text) => {
        hint ||= hintOf(login, text);
        transfer.line(text);
      },
    },
  );
  if (code === 0 && tail.includes(`committed ${token}`)) return;
  if (code === 0) {
    throw new CommandError(
      "the file ends the load's transaction itself (COMMIT, ROLLBACK or \\connect), or leaves it open: what it committed itself stays, nothing else",
    );
  }
  // psql's 2, a connection that is lost, would be taken for wrong usage.
  throw new CommandError(
    `psql ended with ${code}: nothing was loaded, but what the file itself commits${hint}`,
    code === 3 ? 3 : 1,
  );
}

/** @throws CommandError for options by which nothing would be loaded, or elsewhere */
function requireLoading(options: string[]): void {
  const other = options.find((option) =>
    /^(-[lfdcChpU]|--(list|file|dbname|command|create|host|port|username))(?![a-z-])/.test(option),
  );
  if (other) throw new CommandError(`${other} is not for a load, which goes into the tenant's database`, 2);
}

/** What `BEGIN` came before: a file that is cut off never gets to its commit, whoever cuts it off. */
async function* script(input: AsyncIterable<Buffer>, isDump: boolean): AsyncGenerator<Buffer> {
  let tail: Buffer = Buffer.alloc(0);
  for await (const chunk of input) {
    tail = Buffer.concat([tail, chunk.subarray(-512)]).subarray(-512);
    yield chunk;
  }
  if (isDump && !isWhole(tail)) {
    throw new CommandError("the dump is cut off, its last line is missing: nothing was loaded");
  }
  // psql takes a last statement without its semicolon. An empty one, after COPY, would end it.
  const last = tail.toString("latin1").trimEnd().split("\n").at(-1) ?? "";
  yield Buffer.from(/;$|^\\|--|^$/.test(last) ? "\n" : ";\n");
}

const transaction = "pg_catalog.txid_current()::pg_catalog.text";

/** Only where the transaction is still the load's own: a file may have ended it, and gone on without one. */
function commit(token: string): string {
  return `\\o
\\set ON_ERROR_STOP 1
\\set same false
SELECT ${transaction} = current_setting('pgs.load', true) AS same \\gset
\\if :same
COMMIT;
\\echo committed ${token}
\\endif
`;
}

function run(
  login: TenantLogin,
  program: string,
  args: (connection: string) => string[],
  streams: ClientStreams,
): Promise<number> {
  const env = [`PGOPTIONS=${unlimited(login.tenant.version)}`];
  return runClientProgram(login, { program, args, env }, streams);
}

/** Limits of the tenant's own sessions are none of a load. Every role may set these. */
function unlimited(version: number): string {
  const zero = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
  if (version >= 14) zero.push("idle_session_timeout");
  if (version >= 17) zero.push("transaction_timeout");
  return [...zero.map((name) => `-c ${name}=0`), "-c default_transaction_read_only=off"].join(" ");
}

/** @throws CommandError where the database has relations that no extension brought */
async function requireEmpty({ id, tenant, config }: TenantLogin): Promise<void> {
  const ask = await serverOf(id, tenant, config);
  const found = await ask({
    version: tenant.version,
    targets: [`dbname=${tenant.database}`],
    sql: `SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
      WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')`,
    seconds: 20,
  });
  if (found === "0") return;
  throw new CommandError(
    `the database of ${id} has tables already: load into a new tenant (./pgs create), or with --into-existing beside them`,
    2,
  );
}

/** Bytes of a file on a descriptor; undefined of a pipe. */
function sizeOf(descriptor: number): number | undefined {
  const stat = fstatSync(descriptor);
  return stat.isFile() ? stat.size : undefined;
}

async function* counted(source: AsyncIterable<Buffer>, transfer: Transfer): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    transfer.bytes += chunk.length;
    yield chunk;
  }
}

/** The first bytes of a stream, and the whole of it. */
async function peeked(
  source: AsyncIterable<Buffer>,
  most: number,
): Promise<{ head: Buffer; all: AsyncIterable<Buffer> }> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Buffer[] = [];
  let length = 0;
  while (length < most) {
    const { value, done } = await iterator.next();
    if (done) break;
    chunks.push(value);
    length += value.length;
  }
  async function* all(): AsyncGenerator<Buffer> {
    yield* chunks.splice(0);
    yield* { [Symbol.asyncIterator]: () => iterator };
  }
  return { head: Buffer.concat(chunks), all: all() };
}
