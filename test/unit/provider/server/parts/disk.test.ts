import { beforeEach, describe, expect, it, vi } from "vitest";
import { budgetWarnings, disk, softBudget } from "../../../../../provider/server/parts/disk";
import { engine } from "../../../support/engine";
import { acme, FakePostgres, host, running, sightOf } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

let postgres: FakePostgres;

beforeEach(() => {
  host();
  postgres = new FakePostgres();
});

const gigabyte = 2 ** 30;
const withBudget = (bytes?: number) => {
  const live: Record<string, string> = bytes === undefined ? {} : { "pgs.disk": String(bytes) };
  return { ...acme(), settings: { live, restart: {}, initial: {} } };
};

describe("disk", () => {
  it("is watched again where nothing does it, and being read-only is no difference", async () => {
    expect(await disk.differs(acme(), sightOf(postgres))).toBe(false);
    postgres.inside.disk = "2000 2000 5000 9000 read-only:budget\n";
    expect(await disk.differs(acme(), sightOf(postgres))).toBe(false);
    postgres.inside.disk = null;
    expect(await disk.differs(acme(), sightOf(postgres))).toBe(true);
    await disk.apply(running(postgres, acme()));
    expect(engine.ran.at(-1)).toMatch(/: \/pgs\/watch-disk$/);
  });

  it("says of a budget that is new where it is soft, and of one that is too small what it does", async () => {
    const { inside } = sightOf(postgres);
    const warnings = (before?: number, after?: number) =>
      budgetWarnings(withBudget(before), withBudget(after), inside);
    if (inside) inside.disk = `${3 * gigabyte} 0 1 1 writable`;
    expect(await warnings(10 * gigabyte, gigabyte)).toEqual([
      `${acme().container.name} becomes read-only at once: it uses 3Gi, and its disk budget is to be 1Gi`,
    ]);
    expect(await warnings(10 * gigabyte, 20 * gigabyte)).toEqual([]);
    expect(await warnings(10 * gigabyte, undefined)).toEqual([]);
    const soft = "its disk budget is soft on this host: watched and acted on";
    expect(await warnings(undefined, 10 * gigabyte)).toEqual([`${acme().container.name}: ${soft}`]);
  });

  it("says the same of a new tenant, also while its image is not there yet", async () => {
    const soft = "its disk budget is soft on this host: watched and acted on";
    expect(await softBudget(withBudget(gigabyte))).toEqual([`${acme().container.name}: ${soft}`]);
    expect(await softBudget({ ...withBudget(gigabyte), container: undefined })).toEqual([`acme: ${soft}`]);
    expect(await softBudget(withBudget())).toEqual([]);
  });
});
