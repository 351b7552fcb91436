import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** What test/e2e/support/drivers.ts asks of a driver, by pgJDBC. */
class PgJdbc {
  static String url;
  static Properties properties = new Properties();
  static volatile long started;

  public static void main(String[] args) throws Exception {
    url = "jdbc:postgresql://" + args[0] + ":" + args[1] + "/" + args[3];
    properties.setProperty("user", args[2]);
    properties.setProperty("password", System.getenv("PGPASSWORD"));
    properties.setProperty("sslmode", "verify-full");
    properties.setProperty("sslrootcert", args[4]);
    properties.setProperty("sslNegotiation", args[5]);
    // From its first use on, a statement is one of the server's.
    properties.setProperty("prepareThreshold", "1");

    Connection main = connect();
    Connection other = connect();
    PreparedStatement prepared = main.prepareStatement("SELECT pg_backend_pid(), ?::int");
    List<Integer> pids = new ArrayList<>();
    for (int round = 0; round < 2; round++) {
      for (int number = 0; number < 3; number++) {
        pids.add(ask(prepared, number));
      }
      main.commit();
      ask(other.prepareStatement("SELECT pg_backend_pid(), ?::int"), 0);
    }
    other.close();

    Statement statement = main.createStatement();
    Thread canceller = new Thread(() -> cancel(statement));
    canceller.start();
    String message = "";
    try {
      statement.executeQuery(args[6]);
    } catch (SQLException error) {
      message = error.getMessage();
    }
    double seconds = (System.nanoTime() - started) / 1e9;
    canceller.join();
    main.rollback();
    System.out.printf(
        "{\"pids\": %s, \"message\": \"%s\", \"seconds\": %.3f, \"goesOn\": %b}%n",
        pids, message, seconds, ask(prepared, 0) > 0);
  }

  static Connection connect() throws SQLException {
    Connection connection = DriverManager.getConnection(url, properties);
    connection.setAutoCommit(false);
    return connection;
  }

  static int ask(PreparedStatement statement, int number) throws SQLException {
    statement.setInt(1, number);
    try (ResultSet result = statement.executeQuery()) {
      result.next();
      return result.getInt(1);
    }
  }

  static void cancel(Statement statement) {
    try {
      System.in.read();
      started = System.nanoTime();
      statement.cancel();
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }
}
