<?php
// The shop's side of Penstock's contract: declare a sale, add stock, check a pass.

/** One command to Redis. In your shop this is your client: $redis->set(...). */
function redis(string $address, string ...$words)
{
    $link = stream_socket_client("tcp://$address", $errno, $error, 2) ?: throw new RuntimeException($error);
    $command = '*' . count($words) . "\r\n";
    foreach ($words as $word) {
        $command .= '$' . strlen($word) . "\r\n$word\r\n";
    }
    fwrite($link, $command);
    return reply($link);
}

function reply($link)
{
    $line = rtrim(fgets($link), "\r\n");
    $rest = substr($line, 1);
    switch ($line[0]) {
        case '-':
            throw new RuntimeException($rest);
        case '$':
            return $rest === '-1' ? null : substr(stream_get_contents($link, (int) $rest + 2), 0, -2);
        case '*':
            $list = [];
            for ($left = (int) $rest; $left > 0; $left--) {
                $list[] = reply($link);
            }
            return $list;
        default:
            return $rest;
    }
}

/** Writes the wish and waits until a node has said what became of it. */
function declare_sale(string $address, string $sale, string $declaration): array
{
    $revision = json_decode($declaration, true, 32, JSON_THROW_ON_ERROR)['revision'];
    redis($address, 'SADD', 'ps:sales', $sale);
    redis($address, 'SET', "ps:{{$sale}}:want", $declaration);
    redis($address, 'PUBLISH', 'ps:bus', "want:$sale");
    for ($tries = 0; $tries < 100; $tries++) {
        $have = [];
        foreach (array_chunk(redis($address, 'HGETALL', "ps:{{$sale}}:have"), 2) as [$name, $value]) {
            $have[$name] = $value;
        }
        if (($have['error'] ?? '') !== '') {
            throw new RuntimeException('refused: ' . $have['error']);
        }
        if ((int) ($have['revision'] ?? 0) >= $revision) {
            return $have;
        }
        usleep(100000);
    }
    throw new RuntimeException('no node answers');
}

/** Safe to repeat: the same change is applied once. */
function add_stock(string $address, string $sale, string $pool, string $units, string $change): string
{
    return redis($address, 'XADD', "ps:{{$sale}}:in", '*',
        'op', 'add_stock', 'pool', $pool, 'units', $units, 'id', $change);
}

/** What a Penstock-Admission says; null if it is not ours or too old. */
function verify(string $key, string $header): ?array
{
    if (!preg_match('/^v1 ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/D', $header, $parts)) {
        return null;
    }
    $mine = rtrim(strtr(base64_encode(hash_hmac('sha256', $parts[1], $key, true)), '+/', '-_'), '=');
    if (!hash_equals($mine, $parts[2])) {
        return null;
    }
    $told = json_decode(base64_decode(strtr($parts[1], '-_', '+/')), true);
    return $told['exp'] >= time() ? $told : null;
}

[, $verb] = $argv;
$args = array_slice($argv, 2);
if ($verb === 'declare') {
    echo json_encode(declare_sale($args[0], $args[1], file_get_contents($args[2]))), "\n";
} elseif ($verb === 'add-stock') {
    echo add_stock(...$args), "\n";
} elseif ($verb === 'verify') {
    $told = verify(rtrim(file_get_contents($args[0]), "\r\n"), $args[1]);
    if ($told === null) {
        fwrite(STDERR, "not a valid pass\n");
        exit(1);
    }
    echo json_encode($told), "\n";
}
