import { hostname } from "node:os";

/** A lock of Pulumi's on the stack, as its message tells of it. */
export interface StackLock {
  user: string;
  host: string;
  pid: number;
  /** As Pulumi wrote it. */
  since: string;
}

/** The locks that Pulumi's message names; none where it is about something else. */
export function locksIn(text: string): StackLock[] {
  return [...text.matchAll(/created by (\S+?)@(\S+) \(pid (\d+)\) at (\S+)/g)].map(
    ([, user = "", host = "", pid, since = ""]) => ({ user, host, pid: Number(pid), since }),
  );
}

/** Whether the process of a lock runs; undefined of another machine's. */
export function holderRuns({ host, pid }: StackLock): boolean | undefined {
  if (host !== hostname()) return undefined;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process may not be signalled, and is there.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Errors of Pulumi and Docker that users meet often, in words that say what to do. */
const explanations: [RegExp, (match: RegExpExecArray) => string][] = [
  [
    /no stack selected/,
    () =>
      process.env.PULUMI_STACK
        ? `there is no stack ${process.env.PULUMI_STACK}: pulumi stack ls lists them, pulumi stack init ${process.env.PULUMI_STACK} makes it`
        : "no stack is selected: ./pgs up makes one, pulumi stack select NAME takes another",
  ],
  [
    /no stack named '([^']+)' found/,
    ([, name]) => `there is no stack ${name}: pulumi stack ls lists them, pulumi stack init ${name} makes it`,
  ],
  [
    /^(?:error: )?(?:update|destroy|refresh|preview) canceled$/m,
    () => "interrupted before it was complete: run the same command again, it goes on from there",
  ],
  [
    /incorrect passphrase/,
    () =>
      "wrong passphrase: the stack's secrets are encrypted with another one than PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE gives",
  ],
  [
    /unable to read PULUMI_CONFIG_PASSPHRASE_FILE: open (.+): /,
    ([, file]) => `the passphrase file ${file} is missing: restore it from your backup of .pulumi-state`,
  ],
  [
    /passphrase must be set/,
    () => "the passphrase is missing: set PULUMI_CONFIG_PASSPHRASE_FILE or PULUMI_CONFIG_PASSPHRASE",
  ],
  [
    // The provider refused an input, with the value in Pulumi's notation before the reason.
    /resource '([^']+)'(?:: property .*?)? has a problem: (.+)/s,
    ([, name, reason]) => `${name}: ${reason?.trim()}`,
  ],
  [
    /Bind for [^\s]*?:(\d+) failed: port is already allocated|:(\d+): bind: address already in use/,
    ([, docker, kernel]) =>
      `port ${docker ?? kernel} of the Docker host is taken: stop what has it (docker ps --filter publish=${docker ?? kernel}), or pulumi config set pgs:port ANOTHER`,
  ],
  [
    /container name "\/?([^"]+)" is already in use/,
    ([, name]) =>
      `the name ${name} belongs to a container of another stack or program: pulumi config set pgs:prefix ANOTHER, or remove that container`,
  ],
  [
    /Cannot connect to the Docker daemon at (\S+?)\.? |connect (?:ENOENT|ECONNREFUSED|EACCES) (\S+)/,
    ([, daemon, socket]) => `the Docker engine at ${daemon ?? socket} does not answer: ./pgs setup --check`,
  ],
];

/** @returns the explanation of an error's text; undefined where there is none */
export function explainError(text: string): string | undefined {
  const locks = locksIn(text);
  if (/stack is currently locked/.test(text)) return explainLocks(locks);
  for (const [pattern, explain] of explanations) {
    const match = pattern.exec(text);
    if (match) return explain(match);
  }
  return undefined;
}

function explainLocks(locks: StackLock[]): string {
  const [lock] = locks;
  if (!lock) return "another run of Pulumi holds the stack: wait for it";
  const who = `${lock.user}@${lock.host}, process ${lock.pid}, since ${lock.since}`;
  return holderRuns(lock) === false
    ? `the stack is locked by a run that is gone (${who}): ./pgs cancel removes the lock, then run this again`
    : `the stack is locked by another run (${who}): wait for it. If it is gone, ./pgs cancel removes the lock`;
}
