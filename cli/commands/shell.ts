import { command } from "../lib/command";

/** `./pgs` runs these by itself: they must work before Node.js is there. */
export const setup = command(
  "setup",
  "make this machine ready; --check only reports what is missing",
  "./pgs setup --check",
).option("--check", "only report what is missing");

export const env = command("env", "environment for plain pulumi commands", 'eval "$(./pgs env)"');
