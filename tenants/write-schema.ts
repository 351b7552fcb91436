// Writes tenants.schema.json: node --require tsx/cjs tenants/write-schema.ts
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { tenantsJsonSchema } from "./json-schema";

writeFileSync(join(__dirname, "../tenants.schema.json"), tenantsJsonSchema());
