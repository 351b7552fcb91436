import type Docker from "dockerode";
import { stackLabel, versionLabel } from "../../docker/labels";
import type { Finding } from "./doctor";
import { firstOf } from "./terminal";

/** The first engine on which a prune leaves volumes with names alone. https://docs.docker.com/engine/release-notes/23.0/ */
const sparesNames = 23;

/**
 * Data volumes that no container uses, of tenants that are stopped or were removed: on an older engine,
 * `docker system prune --volumes` deletes them.
 * @param version the engine's @param stack value of the stack's label
 */
export async function pruneFindings(
  docker: Docker,
  version: string,
  prefix: string,
  stack: string,
): Promise<Finding[]> {
  if (Number.parseInt(version, 10) >= sparesNames) return [];
  const { Volumes } = await docker.listVolumes({ filters: JSON.stringify({ dangling: ["true"] }) });
  const names = Volumes.filter(({ Name, Labels }) => {
    if (!Name.startsWith(`${prefix}-`)) return false;
    return Labels?.[stackLabel] === stack || (!Labels?.[stackLabel] && Labels?.[versionLabel] !== undefined);
  }).map(({ Name }) => Name);
  if (names.length === 0) return [];
  return [
    {
      check: "volume",
      level: "note",
      message: `docker volume prune and docker system prune --volumes would delete data that no container uses: ${firstOf(names.sort())}`,
      advice:
        "do not run them here without --filter 'label!=pgs.version', which spares tenants' data alone (docs/lifecycle.md, Prune)",
    },
  ];
}
