import { duration } from "../../lib/units";
import type { Change } from "../api";
import { Command, Icon, Scrolling, Stale, Waiting } from "./parts";
import { usePolled } from "./poll";
import { changeText, moment, runText } from "./text";

export function ChangesPage() {
  const polled = usePolled<Change[]>("changes", 15);
  const changes = polled.value;
  return (
    <>
      <h1 tabIndex={-1}>Changes</h1>
      <Stale polled={polled} />
      {!changes ? (
        <Waiting polled={polled} what="the stack's history" />
      ) : changes.length === 0 ? (
        <Command text="./pgs up">The stack has no history yet. This begins it:</Command>
      ) : (
        <>
          <p class="faint">
            The last runs, as Pulumi's history has them, with how many resources each created, changed or
            deleted.
          </p>
          <Scrolling label="Changes">
            <table>
              <thead>
                <tr>
                  <th scope="col">When (UTC)</th>
                  <th scope="col" class="rank1">
                    Run
                  </th>
                  <th scope="col">Result</th>
                  <th scope="col" class="right rank1">
                    Took
                  </th>
                  <th scope="col">What it did</th>
                </tr>
              </thead>
              <tbody>
                {changes.map((change, index) => {
                  const begun = Date.parse(change.startTime ?? "");
                  return (
                    <tr key={index}>
                      <td>{Number.isNaN(begun) ? "–" : moment(begun)}</td>
                      <td class="rank1">{runText(change)}</td>
                      <td>
                        <span class="state">
                          <Icon
                            tone={
                              change.result === "succeeded"
                                ? "good"
                                : change.result === "failed"
                                  ? "bad"
                                  : "busy"
                            }
                          />
                          {change.result}
                        </span>
                      </td>
                      <td class="right rank1">
                        {duration((Date.parse(change.endTime ?? "") - begun) / 1000 || null)}
                      </td>
                      <td>
                        {changeText(change)} <span class="faint">{change.message}</span>
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </Scrolling>
          <div class="commands">
            <Command text="./pgs preview">What the next up would change:</Command>
            <Command text="git log -p tenants.yaml">What was edited, where the file is kept in git:</Command>
          </div>
        </>
      )}
    </>
  );
}
