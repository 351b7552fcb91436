import { bytes } from "../../lib/units";
import type { Host } from "../api";
import { Command, Icon, Scrolling, Section, Stale, State, Tile, Waiting } from "./parts";
import { usePolled } from "./poll";
import { moment } from "./text";

const day = 86_400_000;

export function HostPage() {
  const polled = usePolled<Host>("host", 5);
  return (
    <>
      <h1 tabIndex={-1}>Host</h1>
      <Stale polled={polled} />
      {polled.value ? <Details host={polled.value} /> : <Waiting polled={polled} what="the Docker host" />}
    </>
  );
}

function Details({ host }: { host: Host }) {
  const { engine, memory, cpus, disk, port, connections, services, certificate } = host;
  return (
    <>
      <ul class="facts">
        <li>Docker {engine.version}</li>
        <li>{engine.address}</li>
        <li>port {port}</li>
      </ul>
      <dl class="tiles">
        <Tile
          name="Memory in use"
          value={bytes(memory.used)}
          detail={`of ${bytes(engine.memory)}, by tenants`}
          part={memory.used / engine.memory}
        />
        <Tile
          name="Memory promised"
          value={bytes(memory.promised)}
          detail={`${Math.round((100 * memory.promised) / engine.memory)} % of the host's`}
          part={memory.promised / engine.memory}
        />
        <Tile
          name="CPUs in use"
          value={cpus.used.toFixed(2)}
          detail={`of ${engine.cpus}, by tenants`}
          part={cpus.used / engine.cpus}
        />
        <Tile name="CPUs promised" value={String(cpus.promised)} detail={`${engine.cpus} are there`} />
        {disk ? (
          <Tile
            name="Disk in use"
            value={bytes(disk.size - disk.free)}
            detail={`of ${bytes(disk.size)}, ${bytes(disk.free)} free`}
            part={1 - disk.free / disk.size}
          />
        ) : (
          <Tile name="Disk" value="–" detail="of another machine, not seen from here" />
        )}
        {connections !== null && (
          <Tile name="Open connections" value={String(connections)} detail="of clients, at the proxy" />
        )}
      </dl>
      <Section title="Proxy and other containers of the stack">
        {services.length === 0 ? (
          <Command text="./pgs up">There are none. This makes them:</Command>
        ) : (
          <Scrolling label="Containers of the stack">
            <table>
              <thead>
                <tr>
                  <th scope="col">Container</th>
                  <th scope="col">Role</th>
                  <th scope="col">State</th>
                  <th scope="col">The engine says</th>
                </tr>
              </thead>
              <tbody>
                {services.map(({ name, role, state, status }) => (
                  <tr key={name}>
                    <th scope="row">{name}</th>
                    <td>{role}</td>
                    <td>
                      <State row={{ state: status.includes("(unhealthy)") ? "unhealthy" : state }} />
                    </td>
                    <td class="faint">{status}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scrolling>
        )}
      </Section>
      <Section title="Certificate">
        {certificate.value ? (
          <p class="state">
            <Icon
              tone={
                certificate.value.untrusted
                  ? "bad"
                  : certificate.value.notAfter - Date.now() < 14 * day
                    ? "warning"
                    : "good"
              }
            />
            <span>
              Valid until {moment(certificate.value.notAfter)} UTC (
              {Math.floor((certificate.value.notAfter - Date.now()) / day)} days), {certificate.value.names},
              by {certificate.value.issuer}
              {certificate.value.untrusted &&
                `. Clients that verify refuse it: ${certificate.value.untrusted}`}
            </span>
          </p>
        ) : (
          <p class="faint">{certificate.problem ?? "Asking the proxy …"}</p>
        )}
      </Section>
      <Section title="Check">
        <div class="commands">
          <Command text="./pgs doctor">
            Everything that a login needs, drift and backups, with advice:
          </Command>
          <Command text="./pgs preview">What an up would change:</Command>
          <Command text="./pgs backups">Backups of all tenants, removed ones too:</Command>
          <Command text="./pgs try-restores">Restore the latest backups in isolation:</Command>
        </div>
      </Section>
    </>
  );
}
