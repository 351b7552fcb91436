import { z } from "zod";
import { tenantsFileSchema } from "./schema";

/**
 * The text of tenants.schema.json, by which editors complete and check tenants.yaml. It cannot say what
 * concerns several fields or the disk; the program checks those. Draft 7 is what YAML editors know best.
 */
export function tenantsJsonSchema(): string {
  const schema = z.toJSONSchema(tenantsFileSchema(), {
    target: "draft-7",
    io: "input",
    override: ({ jsonSchema }) => {
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return `${JSON.stringify({ ...schema, title: "tenants.yaml" }, null, 2)}\n`;
}
