import { EventEmitter } from "node:events";
import { posix } from "node:path";
import { buffer } from "node:stream/consumers";
import type Docker from "dockerode";
import * as tar from "tar-stream";
import { clearCache } from "../../../docker/cache";

/** A container as the fake engine keeps it: what dockerode calls ContainerInspectInfo, as far as the product reads it. */
export interface FakeContainer {
  Id: string;
  /** With a slash before it. */
  Name: string;
  Image: string;
  Config: { Image: string; Labels: Record<string, string>; Command: string[]; User?: string };
  HostConfig: Docker.HostConfig;
  Mounts: { Name: string; Destination: string; RW: boolean }[];
  NetworkSettings: { Networks: Record<string, { NetworkID: string; IPAddress?: string }> };
  State: { Running: boolean; Paused: boolean; Restarting: boolean; Status: string };
  RestartCount: number;
  /** Its standard output and error. */
  log: string;
}

interface FakeNetwork {
  Id: string;
  Name: string;
  Internal: boolean;
  Labels: Record<string, string>;
  IPAM: { Config: { Subnet: string }[] };
}

/** What a command that runs in a container is given. */
export interface FakeExec {
  container: FakeContainer;
  /** Without the time limit that `exec` puts before it. */
  command: string[];
  stdin: string;
  env: string[];
}

interface Answer {
  code?: number;
  stdout?: string;
  stderr?: string;
}

/** A Docker engine in memory, as strict as a real one about names that are taken and things that are missing. */
export class FakeEngine {
  containers: FakeContainer[] = [];
  networks: FakeNetwork[] = [];
  /** Labels by name. */
  volumes = new Map<string, Record<string, string>>();
  /** Ids by name and tag. */
  images = new Map<string, string>();
  /** Contents by path, for each volume, or container without a volume there. */
  files = new Map<string, Map<string, string>>();
  /** Permissions of files by path, where they are not the usual ones. */
  modes = new Map<string, number>();
  /** Each change, in order, with names and not ids. */
  done: string[] = [];
  /** Commands that were run in containers, with their names. */
  ran: string[] = [];
  /** Changes that the engine refuses; `exec NAME` is one for a command. */
  refusing: ((change: string) => boolean) | undefined;
  /** What commands answer. */
  answer: (exec: FakeExec) => Answer = () => ({});
  /** What a container does when it is started. */
  onStart: (container: FakeContainer) => void = () => {};

  private made = 0;

  /** Empties it. */
  reset(): void {
    const { docker: _, ...empty } = new FakeEngine();
    Object.assign(this, empty);
    clearCache();
  }

  container(name: string): FakeContainer {
    const found = this.find(name);
    if (!found) throw missing(`No such container: ${name}`);
    return found;
  }

  network(name: string): FakeNetwork {
    const found = this.networks.find(({ Id, Name }) => Id === name || Name === name);
    if (!found) throw missing(`network ${name} not found`);
    return found;
  }

  /** Names of all containers. */
  get names(): string[] {
    return this.containers.map(({ Name }) => Name.slice(1)).toSorted();
  }

  /** Names of the containers that are in a network and run, as the engine lists them. */
  members(network: string): string[] {
    const { Id } = this.network(network);
    return this.containers
      .filter((one) => one.State.Running && isIn(one, Id))
      .map(({ Name }) => Name.slice(1))
      .toSorted();
  }

  /** Adds a container that somebody else made, or that an earlier run left. */
  addContainer(name: string, options: Docker.ContainerCreateOptions = {}, running = true): FakeContainer {
    const container = this.create(name, options);
    if (running) Object.assign(container.State, { Running: true, Status: "running" });
    return container;
  }

  addNetwork(name: string, labels: Record<string, string> = {}, internal = true, subnet = ""): FakeNetwork {
    const Config = subnet ? [{ Subnet: subnet }] : [];
    const network = {
      Id: `n${++this.made}`,
      Name: name,
      Internal: internal,
      Labels: labels,
      IPAM: { Config },
    };
    this.networks.push(network);
    return network;
  }

  /** The files of a container, by path. */
  filesOf(container: FakeContainer, path: string): Map<string, string> {
    const mount = container.Mounts.find(({ Destination }) => posix.join(path, "/").startsWith(Destination));
    const key = mount?.Name ?? container.Id;
    const files = this.files.get(key) ?? new Map<string, string>();
    this.files.set(key, files);
    return files;
  }

  /** In place of the real client. */
  readonly docker = {
    getContainer: (id: string) => this.handleOf(id),
    listContainers: async ({ filters }: { filters?: { label?: string[] } } = {}) => {
      const wanted = (filters?.label ?? []).map((label) => label.split("="));
      return this.containers
        .filter(({ Config }) => wanted.every(([label = "", value]) => Config.Labels[label] === value))
        .map((one) => ({
          Id: one.Id,
          Names: [one.Name],
          Labels: one.Config.Labels,
          State: one.State.Status,
          Command: one.Config.Command.join(" "),
          Mounts: one.Mounts,
          Ports: Object.values(one.HostConfig.PortBindings ?? {})
            .flat()
            .map((binding) => ({ PublicPort: Number((binding as { HostPort: string }).HostPort) })),
        }))
        .toReversed();
    },
    createContainer: async ({ name, ...options }: Docker.ContainerCreateOptions & { name?: string }) => {
      if (name && this.find(name)) throw failure(409, `The container name "/${name}" is already in use`);
      this.change(`create ${name ?? "a helper"}`);
      const made = this.create(name ?? `helper-${this.made}`, options);
      return this.handleOf(made.Id);
    },
    getNetwork: (id: string) => this.networkHandleOf(id),
    listNetworks: async () => this.networks.map((one) => structuredClone(one)),
    createNetwork: async ({ Name, Internal, Labels, IPAM }: Docker.NetworkCreateOptions) => {
      const subnet = IPAM?.Config?.[0]?.Subnet ?? "";
      if (subnet && this.networks.some(({ IPAM: { Config } }) => Config[0]?.Subnet === subnet)) {
        throw failure(403, "Pool overlaps with other one on this address space");
      }
      if (this.networks.some((one) => one.Name === Name)) {
        throw failure(409, `network with name ${Name} already exists`);
      }
      this.change(`create network ${Name}`);
      this.addNetwork(Name, Labels, Internal, subnet);
    },
    getVolume: (name: string) => ({
      inspect: async () => {
        const Labels = this.volumes.get(name);
        if (!Labels) throw missing(`get ${name}: no such volume`);
        return { Name: name, Labels };
      },
      remove: async () => {
        if (this.containers.some(({ Mounts }) => Mounts.some(({ Name }) => Name === name))) {
          throw failure(409, "volume is in use");
        }
        this.change(`remove volume ${name}`);
        this.volumes.delete(name);
      },
    }),
    createVolume: async ({ Name = "", Labels = {} }: Docker.VolumeCreateOptions) => {
      if (!this.volumes.has(Name)) {
        this.change(`create volume ${Name}`);
        this.volumes.set(Name, Labels);
      }
      return this.docker.getVolume(Name);
    },
    getImage: (name: string) => ({
      inspect: async () => {
        const id = [...this.images].find(([tag, known]) => tag === name || known === name)?.[1];
        if (!id) throw missing(`No such image: ${name}`);
        // Of a tag such as `postgres:18`, the image is what it says.
        const [, major] = /:(\d+)/.exec(id.replace(/^sha256:(?=[a-z])/, "")) ?? [];
        return { Id: id, Config: { Env: major ? [`PG_MAJOR=${major}`] : [] } };
      },
    }),
  };

  private find(key: string): FakeContainer | undefined {
    return this.containers.find(({ Id, Name }) => Id === key || Name === `/${key}`);
  }

  private change(what: string): void {
    if (this.refusing?.(what)) throw failure(500, `refused: ${what}`);
    this.done.push(what);
  }

  private create(name: string, options: Docker.ContainerCreateOptions): FakeContainer {
    if (this.find(name)) throw failure(409, `The container name "/${name}" is already in use`);
    const { Image = "", Labels = {}, HostConfig = {}, Entrypoint, Cmd } = options;
    const network = HostConfig.NetworkMode ?? "none";
    const container: FakeContainer = {
      Id: `c${++this.made}`,
      Name: `/${name}`,
      Image: this.images.get(Image) ?? Image,
      Config: { Image, Labels, Command: [Entrypoint ?? [], Cmd ?? []].flat(), User: options.User },
      HostConfig: structuredClone(HostConfig),
      Mounts: (HostConfig.Mounts ?? []).map(({ Source, Target, ReadOnly }) => ({
        Name: Source,
        Destination: Target,
        RW: !ReadOnly,
      })),
      NetworkSettings: { Networks: {} },
      State: { Running: false, Paused: false, Restarting: false, Status: "created" },
      RestartCount: 0,
      log: "",
    };
    if (network !== "none") {
      container.NetworkSettings.Networks[network] = { NetworkID: this.network(network).Id };
    }
    this.containers.push(container);
    return container;
  }

  private handleOf(key: string) {
    const find = () => this.container(key);
    const label = () => find().Name.slice(1);
    const state = (changes: Partial<FakeContainer["State"]>) => Object.assign(find().State, changes);
    const running = { Running: true, Paused: false, Restarting: false, Status: "running" };
    return {
      id: key,
      modem: { demuxStream: (stream: FakeStream, out: Sink, err: Sink) => stream.demux(out, err) },
      inspect: async () => structuredClone(find()),
      start: async () => {
        find();
        this.change(`start ${label()}`);
        state(running);
        this.onStart(find());
      },
      stop: async ({ t }: { t?: number } = {}) => {
        if (!find().State.Running) throw failure(304, "not modified");
        if (find().State.Paused) throw failure(500, "the container is paused");
        this.change(`stop ${label()}${t === undefined ? "" : ` in ${t} s`}`);
        state({ Running: false, Restarting: false, Status: "exited" });
      },
      restart: async () => {
        find();
        this.change(`restart ${label()}`);
        state(running);
        this.onStart(find());
      },
      unpause: async () => {
        this.change(`unpause ${label()}`);
        state({ Paused: false, Status: "running" });
      },
      rename: async ({ name }: { name: string }) => {
        const container = find();
        if (this.find(name)) throw failure(409, `The container name "/${name}" is already in use`);
        this.change(`rename ${label()} to ${name}`);
        container.Name = `/${name}`;
      },
      update: async (changes: Docker.HostConfig) => {
        this.change(`update ${label()}`);
        Object.assign(find().HostConfig, changes);
      },
      remove: async ({ v }: { v?: boolean; force?: boolean } = {}) => {
        const container = find();
        this.change(`remove ${label()}`);
        this.containers.splice(this.containers.indexOf(container), 1);
        if (v) this.files.delete(container.Id);
      },
      logs: async () => Buffer.from(find().log),
      putArchive: async (archive: Buffer, { path }: { path: string }) => {
        const container = find();
        this.change(`put files into ${label()}`);
        const extract = tar.extract();
        extract.end(archive);
        for await (const entry of extract) {
          const content = (await buffer(entry)).toString("utf8");
          this.filesOf(container, path).set(posix.join(path, entry.header.name), content);
        }
      },
      getArchive: async ({ path }: { path: string }) => {
        const found = [...this.filesOf(find(), path)].filter(([file]) => file.startsWith(path));
        if (found.length === 0) throw missing(`no such file: ${path}`);
        const archive = tar.pack();
        const parent = posix.dirname(posix.join(path, "."));
        for (const [file, content] of found) {
          archive.entry({ name: posix.relative(parent, file), mode: this.modes.get(file) }, content);
        }
        archive.finalize();
        return archive;
      },
      exec: async ({ Cmd = [], Env = [], AttachStdin }: Docker.ExecCreateOptions) => {
        const container = find();
        if (!container.State.Running) throw failure(409, "container is not running");
        this.change(`exec ${label()}`);
        this.done.pop();
        // Without timeout, -k, and two times.
        const command = Cmd[0] === "timeout" ? Cmd.slice(4) : Cmd;
        this.ran.push(`${label()}: ${command.join(" ")}`);
        let code = 0;
        const stream = new FakeStream(AttachStdin === true, (stdin) => {
          const answer = this.answer({ container, command, stdin, env: Env });
          code = answer.code ?? 0;
          return answer;
        });
        // Nobody listens to one that is detached.
        const start = async ({ Detach }: Docker.ExecStartOptions = {}) => {
          if (Detach) this.answer({ container, command, stdin: "", env: Env });
          return stream;
        };
        return { start, inspect: async () => ({ ExitCode: code }) };
      },
    };
  }

  private networkHandleOf(key: string) {
    const find = () => this.network(key);
    return {
      inspect: async () => {
        const network = find();
        const inIt = this.containers.filter((one) => one.State.Running && isIn(one, network.Id));
        const Containers = Object.fromEntries(inIt.map(({ Id, Name }) => [Id, { Name: Name.slice(1) }]));
        return { ...structuredClone(network), Containers };
      },
      connect: async ({
        Container,
        EndpointConfig,
      }: {
        Container: string;
        EndpointConfig?: Docker.EndpointSettings;
      }) => {
        const { Name, Id } = find();
        const container = this.container(Container);
        if (isIn(container, Id)) throw failure(403, `endpoint already exists in network ${Name}`);
        this.change(`connect ${container.Name.slice(1)} to ${Name}`);
        const IPAddress = EndpointConfig?.IPAMConfig?.IPv4Address;
        container.NetworkSettings.Networks[Name] = { NetworkID: Id, IPAddress };
      },
      disconnect: async ({ Container }: { Container: string }) => {
        const { Name, Id } = find();
        const container = this.container(Container);
        if (!isIn(container, Id)) {
          throw failure(500, `container ${container.Id} is not connected to network ${Name}`);
        }
        this.change(`disconnect ${container.Name.slice(1)} from ${Name}`);
        delete container.NetworkSettings.Networks[Name];
      },
      remove: async () => {
        const { Name, Id } = find();
        if (this.containers.some((one) => one.State.Running && isIn(one, Id))) {
          throw failure(403, `network ${Name} has active endpoints`);
        }
        this.change(`remove network ${Name}`);
        this.networks = this.networks.filter((one) => one.Id !== Id);
      },
    };
  }
}

/** The engine that `dockerClient` reaches in a test that mocks it. */
export const engine = new FakeEngine();

function isIn({ NetworkSettings }: FakeContainer, id: string): boolean {
  return Object.values(NetworkSettings.Networks).some(({ NetworkID }) => NetworkID === id);
}

function failure(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode });
}

function missing(message: string): Error {
  return failure(404, message);
}

interface Sink {
  write(chunk: Buffer): void;
}

/** The stream of a command: it answers when its input ends. */
class FakeStream extends EventEmitter {
  private sinks: [Sink, Sink] | undefined;

  constructor(
    private readonly reads: boolean,
    private readonly run: (stdin: string) => Answer,
  ) {
    super();
  }

  demux(out: Sink, err: Sink): void {
    this.sinks = [out, err];
    if (!this.reads) setImmediate(() => this.answer(""));
  }

  end(stdin: string): void {
    setImmediate(() => this.answer(stdin));
  }

  destroy(error: Error): void {
    this.emit("error", error);
  }

  private answer(stdin: string): void {
    const { stdout = "", stderr = "" } = this.run(stdin);
    if (stdout) this.sinks?.[0].write(Buffer.from(stdout));
    if (stderr) this.sinks?.[1].write(Buffer.from(stderr));
    this.emit("end");
  }
}

/** Makes the changes that docker/file-changes.ts asks the proxy's shell for; undefined for any other command. */
export function changeFiles({ container, command }: FakeExec): Answer | undefined {
  if (command[0] === "mkdir") return {};
  const [, , script = "", , folder = "", ...steps] = command;
  if (!script.includes("rename)")) return undefined;
  const files = engine.filesOf(container, folder);
  for (let at = 0; at < steps.length; at += 2) {
    const path = posix.join(folder, steps[at + 1] ?? "");
    const fresh = posix.join(folder, ".new", `${steps[at + 1]}.new`);
    if (steps[at] === "rename") files.set(path, files.get(fresh) ?? "");
    else files.delete(path);
    files.delete(fresh);
  }
  return {};
}
