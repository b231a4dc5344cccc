"""The shop's side of Penstock's contract: declare a sale, add stock, check a pass."""
import base64, hashlib, hmac, json, socket, sys, time


def redis(address, *words):
    """One command to Redis. In your shop this is your client: redis.Redis(...).set(...)."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=2) as link:
        command = b"*%d\r\n" % len(words)
        for word in (word.encode() for word in words):
            command += b"$%d\r\n%s\r\n" % (len(word), word)
        link.sendall(command)
        return reply(link.makefile("rb"))


def reply(lines):
    line = lines.readline().decode().rstrip()
    kind, rest = line[0], line[1:]
    if kind == "-":
        raise RuntimeError(rest)
    if kind == "$":
        return None if rest == "-1" else lines.read(int(rest) + 2)[:-2].decode()
    if kind == "*":
        return [reply(lines) for _ in range(int(rest))]
    return int(rest) if kind == ":" else rest


def declare(address, sale, declaration):
    """Writes the wish and waits until a node has said what became of it."""
    revision = json.loads(declaration)["revision"]
    redis(address, "SADD", "ps:sales", sale)
    redis(address, "SET", "ps:{%s}:want" % sale, declaration)
    redis(address, "PUBLISH", "ps:bus", "want:" + sale)
    for _ in range(100):
        flat = redis(address, "HGETALL", "ps:{%s}:have" % sale)
        have = dict(zip(flat[::2], flat[1::2]))
        if have.get("error"):
            raise SystemExit("refused: " + have["error"])
        if int(have.get("revision", 0)) >= revision:
            return have
        time.sleep(0.1)
    raise SystemExit("no node answers")


def add_stock(address, sale, pool, units, change):
    """Safe to repeat: the same `change` is applied once."""
    return redis(address, "XADD", "ps:{%s}:in" % sale, "*",
                 "op", "add_stock", "pool", pool, "units", units, "id", change)


def verify(key, header):
    """What a Penstock-Admission says; None if it is not ours or too old."""
    version, _, rest = header.partition(" ")
    payload, _, tag = rest.partition(".")
    mine = base64.urlsafe_b64encode(hmac.new(key, payload.encode(), hashlib.sha256).digest())
    if version != "v1" or not hmac.compare_digest(mine.rstrip(b"="), tag.encode()):
        return None
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return told if told["exp"] >= time.time() else None


if __name__ == "__main__":
    verb, args = sys.argv[1], sys.argv[2:]
    if verb == "declare":
        print(json.dumps(declare(args[0], args[1], open(args[2]).read())))
    elif verb == "add-stock":
        print(add_stock(*args))
    elif verb == "verify":
        pass_ = verify(open(args[0], "rb").read().rstrip(b"\r\n"), args[1])
        if pass_ is None:
            raise SystemExit("not a valid pass")
        print(json.dumps(pass_))
