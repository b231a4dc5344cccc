# Varnish as its own experts would set it up for this; parameters stand in
# benches/peers/compare/server.rs. @NAMES@ are filled in there.
vcl 4.1;

backend origin {
    .host = "@origin_host@";
    .port = "@origin_port@";
}

sub vcl_recv {
    # The cheapest refusal Varnish has: its limiter (vsthrottle) is not in the package.
    if (req.method == "POST") {
        return (synth(429));
    }
    if (req.url == "/activity/8848/availability") {
        return (synth(200));
    }
    if (req.url ~ "^/personal/") {
        return (pass);
    }
    # With cookies nothing would be cached; the city stands in the query.
    unset req.http.Cookie;
    return (hash);
}

sub vcl_hash {
    # The host is always the same.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    if (bereq.uncacheable) {
        return (deliver);
    }
    unset beresp.http.Vary;
    unset beresp.http.Set-Cookie;
    set beresp.ttl = 1h;
    return (deliver);
}

sub vcl_synth {
    set resp.http.Content-Type = "application/json";
    if (resp.status == 200) {
        set resp.body = "@availability@";
    } else {
        set resp.body = "@refusal@";
    }
    return (deliver);
}
