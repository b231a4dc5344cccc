// The shop's side of Penstock's contract: declare a sale, add stock, check a pass.
// Run it as it is: java Shop.java declare 127.0.0.1:6379 shop/drop want.json

import java.io.*;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.regex.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Shop {
    /** One command to Redis. In your shop this is your client: jedis.set(...). */
    static Object redis(String address, String... words) throws IOException {
        int colon = address.lastIndexOf(':');
        try (Socket link = new Socket(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)))) {
            link.setSoTimeout(2000);
            var command = new ByteArrayOutputStream();
            command.write(("*" + words.length + "\r\n").getBytes());
            for (String word : words) {
                byte[] bytes = word.getBytes(StandardCharsets.UTF_8);
                command.write(("$" + bytes.length + "\r\n").getBytes());
                command.write(bytes);
                command.write("\r\n".getBytes());
            }
            link.getOutputStream().write(command.toByteArray());
            return reply(new DataInputStream(new BufferedInputStream(link.getInputStream())));
        }
    }

    static Object reply(DataInputStream in) throws IOException {
        var line = new StringBuilder();
        for (int c = in.read(); c != '\n' && c != -1; c = in.read()) if (c != '\r') line.append((char) c);
        String rest = line.substring(1);
        switch (line.charAt(0)) {
            case '-': throw new IOException(rest);
            case '$': {
                int length = Integer.parseInt(rest);
                if (length < 0) return null;
                byte[] bytes = in.readNBytes(length);
                in.readNBytes(2);
                return new String(bytes, StandardCharsets.UTF_8);
            }
            case '*': {
                var list = new ArrayList<Object>();
                for (int left = Integer.parseInt(rest); left > 0; left--) list.add(reply(in));
                return list;
            }
            default: return rest;
        }
    }

    /** Writes the wish and waits until a node has said what became of it. */
    static Map<String, String> declare(String address, String sale, String declaration) throws Exception {
        long revision = Long.parseLong(field(declaration, "revision"));
        redis(address, "SADD", "ps:sales", sale);
        redis(address, "SET", "ps:{" + sale + "}:want", declaration);
        redis(address, "PUBLISH", "ps:bus", "want:" + sale);
        for (int tries = 0; tries < 100; tries++) {
            var have = new TreeMap<String, String>();
            var flat = (List<?>) redis(address, "HGETALL", "ps:{" + sale + "}:have");
            for (int i = 0; i + 1 < flat.size(); i += 2) have.put((String) flat.get(i), (String) flat.get(i + 1));
            if (!have.getOrDefault("error", "").isEmpty()) throw new IOException("refused: " + have.get("error"));
            if (Long.parseLong(have.getOrDefault("revision", "0")) >= revision) return have;
            Thread.sleep(100);
        }
        throw new IOException("no node answers");
    }

    /** Safe to repeat: the same change is applied once. */
    static Object addStock(String address, String sale, String pool, String units, String change) throws IOException {
        return redis(address, "XADD", "ps:{" + sale + "}:in", "*",
            "op", "add_stock", "pool", pool, "units", units, "id", change);
    }

    /** The JSON that a Penstock-Admission carries; null if it is not ours or too old. */
    static String verify(byte[] key, String header) throws Exception {
        Matcher parts = Pattern.compile("v1 ([A-Za-z0-9_-]+)\\.([A-Za-z0-9_-]+)").matcher(header);
        if (!parts.matches()) return null;
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        byte[] mine = mac.doFinal(parts.group(1).getBytes(StandardCharsets.US_ASCII));
        if (!MessageDigest.isEqual(mine, Base64.getUrlDecoder().decode(parts.group(2)))) return null;
        String told = new String(Base64.getUrlDecoder().decode(parts.group(1)), StandardCharsets.UTF_8);
        return Long.parseLong(field(told, "exp")) >= System.currentTimeMillis() / 1000 ? told : null;
    }

    /** A number in a JSON object. In your shop this is your JSON library. */
    static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*(\\d+)").matcher(json);
        if (!found.find()) throw new IllegalArgumentException("no " + name);
        return found.group(1);
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "declare" -> System.out.println(declare(args[1], args[2], Files.readString(Path.of(args[3]))));
            case "add-stock" -> System.out.println(addStock(args[1], args[2], args[3], args[4], args[5]));
            case "verify" -> {
                String told = verify(Files.readString(Path.of(args[1])).stripTrailing().getBytes(), args[2]);
                if (told == null) {
                    System.err.println("not a valid pass");
                    System.exit(1);
                }
                System.out.println(told);
            }
            default -> throw new IllegalArgumentException(args[0]);
        }
    }
}
