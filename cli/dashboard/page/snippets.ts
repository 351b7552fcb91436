/** How a client connects, without a password: that stays with the command that prints it. */
export interface Snippet {
  name: string;
  /** The language, for the reader. */
  code: string;
  note?: string;
}

/** @param connection libpq's keywords @param ownCa whether clients verify by the stack's own CA, in ca.pem */
export function snippets(id: string, connection: Record<string, string>, ownCa: boolean): Snippet[] {
  const { host = "", hostaddr, port = "", dbname = "", user = "" } = connection;
  const tls: [string, string][] = ownCa
    ? [
        ["sslmode", "verify-full"],
        ["sslrootcert", "ca.pem"],
      ]
    : [["sslmode", "verify-full"]];
  const libpq = [...Object.entries(connection), ...tls].map(([key, value]) => `${key}=${value}`).join(" ");
  const query = tls.map(([key, value]) => `${key}=${value}`).join("&");
  const unresolved = hostaddr
    ? `${host} does not resolve here. Until it does, the name needs a line in the hosts file: ${hostaddr} ${host}`
    : undefined;
  return [
    { name: "psql", code: `PGPASSWORD=$(./pgs password ${id}) psql "${libpq}"` },
    {
      name: "JDBC",
      code: `jdbc:postgresql://${host}:${port}/${dbname}?user=${user}&${query}`,
      note: unresolved,
    },
    {
      name: "node-postgres",
      code: [
        "const client = new Client({",
        `  host: "${hostaddr ?? host}", port: ${port}, database: "${dbname}", user: "${user}",`,
        "  password: process.env.PGPASSWORD,",
        `  ssl: { servername: "${host}"${ownCa ? ', ca: fs.readFileSync("ca.pem", "utf8")' : ""} },`,
        "});",
      ].join("\n"),
    },
    {
      name: "psycopg",
      code: `psycopg.connect("${libpq}", password=os.environ["PGPASSWORD"])`,
    },
    {
      name: ".env",
      code: [
        `PGHOST=${host}`,
        ...(hostaddr ? [`PGHOSTADDR=${hostaddr}`] : []),
        `PGPORT=${port}`,
        `PGDATABASE=${dbname}`,
        `PGUSER=${user}`,
        "PGPASSWORD=                # ./pgs password prints it",
        ...tls.map(([key, value]) => `PG${key.toUpperCase()}=${value}`),
      ].join("\n"),
    },
  ];
}
