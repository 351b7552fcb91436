import * as pulumi from "@pulumi/pulumi";
import { main } from "@pulumi/pulumi/provider";
import { Provider } from "./provider";

// With the engine's address, `pulumi.log` reaches the operator.
pulumi.runtime.resetOptions("", "", 1, process.argv.at(-1) ?? "", "", false, "");
exitWithParent();
// Standard output belongs to the port number that `main` prints; everything else goes to standard error.
void main(new Provider(), process.argv.slice(2));

/** A Pulumi that is killed leaves its plugins behind: this one must not go on changing things under the next run. */
function exitWithParent(): void {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(1);
  }, 200).unref();
}
