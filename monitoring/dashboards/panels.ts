import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import {
  type Dashboard,
  DashboardBuilder,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
  VariableHide,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** Each dashboard lets the reader choose where its figures are. */
const source = { type: "prometheus", uid: `\${datasource}` };

export interface PanelOptions {
  /** Of 24. */
  span?: number;
  /** Without what the stack does not have, such as copies at S3, the panel is empty. */
  onlyWith?: string;
  /** The highest value, where there is one. */
  max?: number;
}

const described = ({ onlyWith }: PanelOptions) => (onlyWith ? `Only with ${onlyWith}.` : "");

/** Lines over time. @param queries by their legends */
export function lines(
  title: string,
  unit: string,
  queries: Record<string, string>,
  options: PanelOptions = {},
): Builder<Panel> {
  const panel = new TimeseriesBuilder()
    .title(title)
    .description(described(options))
    .datasource(source)
    .unit(unit)
    .min(0)
    .fillOpacity(10)
    .span(options.span ?? 12)
    .height(8);
  if (options.max !== undefined) panel.max(options.max);
  for (const [index, [legend, expr]] of Object.entries(queries).entries()) {
    panel.withTarget(query(expr).refId(refId(index)).legendFormat(legend));
  }
  return panel;
}

/** One figure, as it is now. */
export function figure(
  title: string,
  unit: string,
  expr: string,
  options: PanelOptions = {},
): Builder<Panel> {
  return new StatBuilder()
    .title(title)
    .description(described(options))
    .datasource(source)
    .unit(unit)
    .span(options.span ?? 4)
    .height(4)
    .withTarget(query(expr).refId("A").instant());
}

export interface TableColumn {
  title: string;
  unit: string;
  expr: string;
}

/** A row for each value of a label. @param links where a click on it leads, with `${__value.text}` */
export function rows(
  title: string,
  label: { name: string; title: string; link?: string },
  columns: TableColumn[],
  options: PanelOptions & { height?: number } = {},
): Builder<Panel> {
  const panel = new TableBuilder()
    .title(title)
    .description(described(options))
    .datasource(source)
    .span(24)
    .height(options.height ?? 12)
    .withTransformation({ id: "merge", options: {} })
    .withTransformation({
      id: "organize",
      options: { excludeByName: { Time: true }, renameByName: { [label.name]: label.title } },
    });
  const links = label.link ? [{ id: "links", value: [{ title: "Open", url: label.link }] }] : [];
  panel.overrideByName(label.title, links);
  for (const [index, { title, unit, expr }] of columns.entries()) {
    const id = refId(index);
    panel.withTarget(query(expr).refId(id).format(PromQueryFormat.Table).instant());
    panel.overrideByName(`Value #${id}`, [
      { id: "displayName", value: title },
      { id: "unit", value: unit },
    ]);
  }
  return panel;
}

const refId = (index: number) => String.fromCharCode("A".charCodeAt(0) + index);
const query = (expr: string) => new DataqueryBuilder().expr(expr).datasource(source);

export interface DashboardContent {
  uid: string;
  title: string;
  /** Whether it is about one tenant, which the reader chooses. */
  tenant?: boolean;
  /** Panels by the titles of their rows. */
  panels: Record<string, Builder<Panel>[]>;
}

export function dashboard({ uid, title, tenant, panels }: DashboardContent): Dashboard {
  const builder = new DashboardBuilder(`pgs: ${title}`)
    .uid(uid)
    .tags(["pgs", "postgresql"])
    .refresh("1m")
    .time({ from: "now-6h", to: "now" })
    .timezone("browser")
    .readonly()
    .link(
      new DashboardLinkBuilder("pgs")
        .type(DashboardLinkType.Dashboards)
        .tags(["pgs"])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(
      new DatasourceVariableBuilder("datasource")
        .label("Prometheus")
        .type("prometheus")
        .hide(VariableHide.DontHide),
    )
    .withVariable(labelVariable("stack", "Stack", "label_values(pgs_tenant_info, stack)"));
  if (tenant) {
    builder.withVariable(
      labelVariable("tenant", "Tenant", 'label_values(pgs_tenant_info{stack="$stack"}, tenant)'),
    );
  }
  for (const [row, inIt] of Object.entries(panels)) {
    builder.withRow(new RowBuilder(row));
    for (const panel of inIt) builder.withPanel(panel);
  }
  return builder.build();
}

function labelVariable(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(label)
    .datasource(source)
    .query({ query, refId: name })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc);
}
