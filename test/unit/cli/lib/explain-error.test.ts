import { hostname } from "node:os";
import { describe, expect, it } from "vitest";
import { explainError, holderRuns, locksIn } from "../../../../cli/lib/explain-error";

const locked = (pid: number, host = hostname()) =>
  `error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock file with \`pulumi cancel\`.
  file:///checkout/.pulumi-state/.pulumi/locks/organization/pgs/dev/fe17c93a.json?metadata=skip: created by root@${host} (pid ${pid}) at 2026-11-27T00:04:16Z`;
/** Larger than any process number of Linux. */
const gone = 2 ** 22 + 1;

describe("an error that users meet often", () => {
  it.each([
    ["error: no stack named 'nope' found", /there is no stack nope: .*pulumi stack init nope/],
    [
      "error: getting stack configuration: get stack secrets manager: incorrect passphrase",
      /wrong passphrase/,
    ],
    [
      "error: constructing secrets manager: unable to read PULUMI_CONFIG_PASSPHRASE_FILE: open /x/passphrase: no such file or directory",
      /passphrase file \/x\/passphrase is missing/,
    ],
    [
      "driver failed programming external connectivity on endpoint pgs-proxy: Bind for 0.0.0.0:5432 failed: port is already allocated",
      /port 5432 .* pgs:port/,
    ],
    ["Error starting userland proxy: listen tcp4 0.0.0.0:5432: bind: address already in use", /port 5432 /],
    [
      'Conflict. The container name "/pgs-acme" is already in use by container "0a1b"',
      /name pgs-acme .* pgs:prefix/,
    ],
    [
      "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
      /unix:.* \.\/pgs setup --check/,
    ],
    [
      "pgs:index:Container resource 'proxy': property ports value {[{map[external:{5432}]}]} has a problem: port 5432 of the Docker host is published by x",
      /^proxy: port 5432 of the Docker host is published by x$/,
    ],
    ["error: update canceled", /^interrupted before .* run the same command again/],
    [locked(gone), /run that is gone .*\.\/pgs cancel/],
    [locked(process.pid), /another run \(root@.*wait for it/],
    [locked(gone, "another-host"), /another run .* If it is gone, \.\/pgs cancel/],
  ])("%s is explained", (text, explanation) => {
    expect(explainError(text)).toMatch(explanation);
  });

  it("leaves others as they are", () => {
    expect(explainError("error: something else")).toBeUndefined();
  });
});

it("knows whether the process of a lock runs, on this machine alone", () => {
  expect(locksIn(locked(process.pid)).map(holderRuns)).toEqual([true]);
  expect(locksIn(locked(gone)).map(holderRuns)).toEqual([false]);
  expect(locksIn(locked(gone, "another-host")).map(holderRuns)).toEqual([undefined]);
});
