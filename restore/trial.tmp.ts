import { dockerClient } from "../docker/client";
import { adoptTimeline, archiveWal, check, layOut, recover, verifyBackup, removeVolume } from ".";
const docker = dockerClient(undefined);
async function main() {
  const [, , at, from = "acme"] = process.argv;
  const restored = { stack: "offs-1", prefix: "offs", from, at: at || undefined, version: 18, volume: "offs-copy", backupImage: "pgs-barman:offs", image: "postgres:18.6-bookworm", offsite: true, onProgress: (p: string) => console.log("  ", p) };
  await removeVolume(docker, "offs-copy", "offs-1");
  await docker.createVolume({ Name: "offs-copy", Labels: { "pgs.stack": "offs-1" } });
  const t = Date.now();
  const step = async (n: string, w: Promise<unknown>) => console.log(n, await w, Date.now() - t);
  await step("archive", archiveWal(docker, restored));
  await step("layOut", layOut(docker, restored));
  await step("recover", recover(docker, restored, "copy", ""));
  await step("check", check(docker, restored));
  if (process.argv[4]) await step("adopt", adoptTimeline(docker, restored));
}
main().catch((e) => { console.error("FAILED", e.message, e.code); process.exit(1); });
