type MaybePromise<T> = T | Promise<T>;

/**
 * What a kind of resource must be able to do. `Inputs` is what the program asked for; the state (`State`) has the
 * inputs as they were last applied, and discovered values.
 */
export interface ResourceType<Inputs extends object, State extends Inputs = Inputs> {
  /** Inputs whose change is applied by `update`. */
  readonly updatable: readonly (keyof Inputs & string)[];

  /** Inputs whose change needs a new resource. Any input in neither list counts only when it is made. */
  readonly replacing: readonly (keyof Inputs & string)[];

  /**
   * What is wrong with the inputs, before anything is planned; `before` are those of an earlier `up`. Unknown values are
   * left out.
   */
  check?(
    inputs: Partial<Inputs>,
    before: Partial<Inputs>,
  ): MaybePromise<{ property: keyof Inputs & string; reason: string }[]>;

  /** Why an update to these inputs cannot be planned. */
  refusal?(state: State, inputs: Inputs): MaybePromise<string | undefined>;

  /** What the operator should know of a planned update beyond the fields that it changes. */
  planWarnings?(state: State, inputs: Inputs): MaybePromise<string[]>;

  /** The same of one that is to be made. Unknown values are left out. */
  creationWarnings?(inputs: Partial<Inputs>): MaybePromise<string[]>;

  /** Makes the resource, or adopts what an interrupted run left of it. */
  create(inputs: Inputs): Promise<{ id: string; state: State }>;

  /** The resource as it is now; undefined when it is gone. What was changed by hand differs from `state`. */
  read(id: string, state: State): Promise<State | undefined>;

  /**
   * What was changed by hand since the last `up`, in words for the operator; undefined when the resource is gone.
   * Without it, `read` is compared with the state.
   */
  drift?(id: string, state: State): Promise<string[] | undefined>;

  /** Also of one that is gone, or was changed by hand: `state` is what the last `up` left. */
  update(id: string, state: State, inputs: Inputs): Promise<State>;

  /** Removes the resource; one that is gone already is no error. */
  delete(id: string, state: State): Promise<void>;
}

/**
 * The resource exists but is not yet what it should be. Pulumi keeps it in the state with what is known of it, and the
 * next `up` tries again by `update`.
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
