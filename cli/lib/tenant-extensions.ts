import { z } from "zod";
import { type Ask, askDatabase } from "./ask-server";
import { CommandError } from "./pulumi";

/** An extension that a tenant's database has, or that its image could give it. */
export interface ExtensionStatus {
  name: string;
  /** Version in the database; null when it is not there. */
  installed: string | null;
  /** Newest version of the image; null when the image has none. */
  newest: string | null;
  state: "installed" | "outdated" | "missing in the image" | "available";
  comment: string;
}

/** What a server says; its superuser is the tenant, so it may say anything. */
const text = z.string().max(1000);
const answerSchema = z
  .array(
    z.object({
      name: text,
      installed: text.nullable(),
      newest: text.nullable(),
      comment: text.nullable(),
    }),
  )
  .max(5000);

const query = `SELECT coalesce(json_agg(json_build_object('name', coalesce(name, extname), 'installed', extversion,
    'newest', default_version, 'comment', comment) ORDER BY extversion IS NULL, coalesce(name, extname)), '[]')
  FROM pg_available_extensions FULL JOIN pg_extension ON extname = name`;

/** Installed ones first. @throws CommandError when the server does not answer */
export async function tenantExtensions(
  ask: Ask,
  tenant: { database: string; version: number; user: string },
): Promise<ExtensionStatus[]> {
  const answer = await askDatabase(ask, tenant, query);
  try {
    return answerSchema.parse(JSON.parse(answer)).map(({ comment, ...one }) => ({
      ...one,
      state: stateOf(one),
      comment: comment ?? "",
    }));
  } catch {
    throw new CommandError(`${tenant.database}: its server's answer is not what PostgreSQL answers`);
  }
}

function stateOf({ installed, newest }: Pick<ExtensionStatus, "installed" | "newest">) {
  if (installed === null) return "available";
  if (newest === null) return "missing in the image";
  return installed === newest ? "installed" : "outdated";
}
