// Writes cli/help.txt, which ./pgs shows without Node.js: node --require tsx/cjs cli/write-help.ts
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { helpText } from "./lib/program";

writeFileSync(join(__dirname, "help.txt"), helpText());
