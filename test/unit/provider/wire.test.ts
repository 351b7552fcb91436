import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isUnknown, secretsIn, unwrap, wrap } from "../../../provider/wire";

describe("the wire", () => {
  const fields = fc.dictionary(fc.string(), fc.option(fc.jsonValue(), { nil: undefined }));
  const withSecrets = fields.chain((all) => fc.tuple(fc.constant(all), fc.subarray(Object.keys(all))));
  const defined = (all: object) =>
    Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));

  it("gives back what was put on it, without what is undefined", () => {
    fc.assert(
      fc.property(withSecrets, ([all, secrets]) => {
        expect(unwrap(wrap(all, secrets))).toStrictEqual(defined(all));
      }),
    );
  });

  it("knows which fields were put on it as secrets", () => {
    fc.assert(
      fc.property(withSecrets, ([all, secrets]) => {
        const expected = secrets.filter((key) => all[key] !== undefined);
        expect(secretsIn(wrap(all, secrets)).toSorted()).toEqual(expected.toSorted());
      }),
    );
  });

  it("gives back what was put on it twice", () => {
    expect(unwrap(wrap({ a: wrap({ b: 1 }, ["b"]) }, ["a"]))).toEqual({ a: { b: 1 } });
    expect(unwrap([wrap({ b: 1 }, ["b"])])).toEqual([{ b: 1 }]);
  });

  it("has secrets in no other form than Pulumi's own", async () => {
    await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) });
    const written = await pulumi.runtime.serializeProperties("test", {
      password: pulumi.secret("p"),
      settings: { deep: [pulumi.secret("d"), pulumi.secret({ x: pulumi.secret(1) })] },
      memory: 5,
    });
    expect(secretsIn(written)).toContain("password");
    expect(secretsIn(written)).not.toContain("memory");
    expect(unwrap(written)).toEqual({ password: "p", settings: { deep: ["d", { x: 1 }] }, memory: 5 });
    expect(wrap({ password: "p" }, ["password"])).toEqual({ password: written.password });
  });

  it("stands for an output by its value, and for an unknown one by Pulumi's unknown value", () => {
    const output = { [pulumi.runtime.specialSigKey]: pulumi.runtime.specialOutputValueSig };
    expect(unwrap({ a: { ...output, value: [1] }, b: output })).toEqual({
      a: [1],
      b: pulumi.runtime.unknownValue,
    });
    expect(isUnknown(pulumi.runtime.unknownValue)).toBe(true);
    expect(isUnknown("known")).toBe(false);
  });
});
