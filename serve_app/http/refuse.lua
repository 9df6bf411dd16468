-- Answers what never becomes a request, see serve_app/http/haproxy.py: HAProxy itself has only a fixed page for it.
-- The rules leave the status line and the body in variables.
core.register_service("fastserve_refuse", "tcp", function(applet)
    local body = applet:get_var("txn.refused_body")
    applet:send("HTTP/1.1 " .. applet:get_var("txn.refused_status") .. "\r\n"
        .. "content-type: application/json\r\n"
        .. "content-length: " .. #body .. "\r\n"
        .. "connection: close\r\n\r\n"
        .. body)
end)
