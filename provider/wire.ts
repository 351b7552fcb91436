/**
 * How Pulumi writes special values on the wire.
 * https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/properties.go
 */
const signatureKey = "4dabf18193072939515e22adb298388d";
const secretSignature = "1b47061264138c4ac30d75fd1eb44270";
const outputSignature = "d0e6a833031e9bbcd3f4e8bde6ca49a4";

/** Stands for a value that is not known yet, in previews. */
const unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

export function isUnknown(value: unknown): boolean {
  return value === unknown;
}

/** The plain value: secrets and outputs taken out of their wrapping, at any depth. */
export function unwrap(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrap);
  if (value === null || typeof value !== "object") return value;
  const fields = value as Record<string, unknown>;
  switch (fields[signatureKey]) {
    case secretSignature:
      return unwrap(fields.value);
    case outputSignature:
      return "value" in fields ? unwrap(fields.value) : unknown;
    default:
      return Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, unwrap(field)]));
  }
}

/** Names of the fields that came as secrets. */
export function secretsIn(fields: unknown): string[] {
  return Object.entries(fields as object)
    .filter(([, value]) => value?.[signatureKey] === secretSignature)
    .map(([key]) => key);
}

/** `fields` with those named in `secrets` wrapped, and without those that are undefined (the wire has none). */
export function wrap(fields: object, secrets: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [
        key,
        secrets.includes(key) ? { [signatureKey]: secretSignature, value } : value,
      ]),
  );
}
