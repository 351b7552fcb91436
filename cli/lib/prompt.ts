import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { CommandError } from "./pulumi";

/** Whether somebody is there to be asked. */
export function isAttended(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/** One line typed at the terminal. @throws CommandError with 130 on Ctrl-C, and at the end of the input */
export async function ask(question: string, options: { hidden?: boolean } = {}): Promise<string> {
  // A hidden answer is typed into a terminal in raw mode whose echo goes nowhere.
  const output = options.hidden
    ? new Writable({ write: (_chunk, _encoding, done) => done() })
    : process.stderr;
  const terminal = createInterface({ input: process.stdin, output, terminal: true });
  // Only now: what is typed at once must not be shown either.
  if (options.hidden) process.stderr.write(question);
  const ended = new Promise<never>((_resolve, reject) => {
    const stop = () => {
      process.stderr.write("\n");
      reject(new CommandError("nothing was changed", 130));
    };
    terminal.on("SIGINT", stop);
    terminal.on("close", stop);
  });
  ended.catch(() => {});
  try {
    const answer = await Promise.race([terminal.question(options.hidden ? "" : question), ended]);
    if (options.hidden) process.stderr.write("\n");
    return answer;
  } finally {
    terminal.removeAllListeners("close");
    terminal.close();
  }
}

/** @throws CommandError when the answer is no */
export async function confirm(question: string): Promise<void> {
  const answer = await ask(`${question} [y/N] `);
  if (!/^y(es)?$/i.test(answer.trim())) throw new CommandError("nothing was changed");
}

/**
 * A password, typed twice without echo at a terminal, else the whole of standard input. Never from an argument:
 * those are in the shell's history and in the list of processes.
 */
export async function readPassword(source: string | true): Promise<string> {
  if (source !== "-" && source !== true) {
    throw new CommandError(
      "--password takes no password of its own: it is asked for, or with - read from standard input",
      2,
    );
  }
  const typed = process.stdin.isTTY === true;
  if (source === true && !typed) {
    throw new CommandError("--password without a terminal needs -: the password on standard input", 2);
  }
  const password = typed
    ? await ask("Password: ", { hidden: true })
    : (await text(process.stdin)).replace(/\r?\n$/, "");
  if (!/^[ -~]{1,256}$/.test(password)) {
    throw new CommandError("the password is not 1 to 256 printable ASCII characters", 2);
  }
  if (typed && (await ask("The same again: ", { hidden: true })) !== password) {
    throw new CommandError("the two are not the same: nothing was changed", 2);
  }
  return password;
}
