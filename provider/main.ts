import { main } from "@pulumi/pulumi/provider";
import { Provider } from "./provider";

// Standard output belongs to the port number that `main` prints; everything else goes to standard error.
void main(new Provider(), process.argv.slice(2));
