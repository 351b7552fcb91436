type MaybePromise<T> = T | Promise<T>;

/**
 * What a kind of resource must be able to do. `Inputs` is what the program asked for; what is kept in the
 * state (`State`) are the inputs as they were last brought about, and what was learnt on the way.
 */
export interface ResourceType<Inputs extends object, State extends Inputs = Inputs> {
  /** Inputs whose change is brought about by `update`. */
  readonly updatable: readonly (keyof Inputs & string)[];

  /** Inputs whose change needs a new resource. Any input in neither list counts only when it is made. */
  readonly replacing: readonly (keyof Inputs & string)[];

  /** Inputs that follow from the others and from this program. Unknown values are left out. */
  derived?(inputs: Partial<Inputs>): Partial<Inputs>;

  /** What is wrong with the inputs, before anything is planned; `before` are those of an earlier `up`. Unknown values are left out. */
  check?(
    inputs: Partial<Inputs>,
    before: Partial<Inputs>,
  ): MaybePromise<{ property: keyof Inputs & string; reason: string }[]>;

  /** What the operator should know of a planned update beyond the fields that it changes. */
  remark?(state: State, inputs: Inputs): MaybePromise<string | undefined>;

  /** Makes the resource, or takes up what an interrupted run left of it. */
  create(inputs: Inputs): Promise<{ id: string; state: State }>;

  /** The resource as it is now; undefined when it is gone. Parts changed by hand differ from `state`. */
  read(id: string, state: State): Promise<State | undefined>;

  /** The same before each plan, where that is to be had for less; without it, `read`. */
  look?(id: string, state: State): Promise<State | undefined>;

  /** Also of one that is gone, or was changed by hand: `state` is what the last `up` left. */
  update(id: string, state: State, inputs: Inputs): Promise<State>;

  /** Removes the resource; one that is gone already is no error. */
  delete(id: string, state: State): Promise<void>;
}

/**
 * The resource exists but is not yet what it should be. Pulumi keeps it in the state with what is known of
 * it, and the next `up` tries again by `update`.
 */
export class IncompleteError extends Error {
  readonly reasons: string[];

  constructor(
    readonly id: string,
    readonly properties: object,
    cause: Error,
  ) {
    super(cause.message);
    this.reasons = [cause.message];
  }
}
