import { stringify } from "yaml";
import type { Settings } from "../config";
import { inhibitRules } from "./rules";

type Destinations = NonNullable<NonNullable<Settings["monitoring"]>["alerts"]>;

/** Where Alertmanager's container has its secrets, a file each. */
export const secretsFolder = "/alertmanager";

/**
 * Alertmanager's configuration. It has no secret: those are in files, by the names of `pgs:alertCredentials`.
 * https://prometheus.io/docs/alerting/latest/configuration/
 */
export function alertmanagerConfiguration(
  { webhook, slack, email }: Destinations,
  { credentials, haste = 1 }: { credentials: string[]; haste?: number },
): string {
  const secret = (name: string) => `${secretsFolder}/${name}`;
  const always = { send_resolved: true };
  const title = "{{ .CommonLabels.alertname }} ({{ .Status }})";
  const text =
    "{{ range .Alerts }}{{ .Labels.severity }}: {{ .Annotations.summary }}\n{{ .Annotations.description }}\n{{ .Annotations.runbook_url }}\n{{ end }}";
  const seconds = (duration: number) => `${Math.max(1, Math.round(duration / haste))}s`;
  return stringify(
    {
      route: {
        receiver: "operator",
        // Fifty tenants with one problem are one message.
        group_by: ["alertname", "stack"],
        group_wait: seconds(30),
        group_interval: seconds(300),
        repeat_interval: "4h",
      },
      inhibit_rules: inhibitRules(),
      receivers: [
        {
          name: "operator",
          ...(webhook && {
            webhook_configs: [
              {
                ...always,
                url: webhook,
                ...(credentials.includes("webhookToken") && {
                  http_config: { authorization: { credentials_file: secret("webhookToken") } },
                }),
              },
            ],
          }),
          ...(slack && {
            slack_configs: [{ ...always, api_url_file: secret("slackUrl"), channel: slack, title, text }],
          }),
          ...(email && {
            email_configs: [
              {
                ...always,
                to: email.to,
                from: email.from,
                smarthost: email.smarthost,
                ...(email.username && {
                  auth_username: email.username,
                  auth_password_file: secret("smtpPassword"),
                }),
              },
            ],
          }),
        },
      ],
    },
    { lineWidth: 0 },
  );
}
