-- One SET a request. Everything is local, connections are pooled, and the answer is put together by hand: the encoder
-- sees the key alone.

local cjson = require "cjson.safe"
local redis = require "nginx.redis"

ngx.req.read_body()
local event = cjson.decode(ngx.req.get_body_data())
if not event or event.key ~= "SET" then
    return ngx.exit(422)
end
local data = event.value.data

local client = redis:new()
local connected = client:connect("127.0.0.1", tonumber(ngx.var.redis_port))
if not connected then
    return ngx.exit(503)
end
local stored = client:set(data.key, data.value)
if not stored then
    return ngx.exit(503)
end
client:set_keepalive(60000, 256)

local body = '{"status":"ok","event":"SET","results":[{"key":' .. cjson.encode(data.key)
    .. ',"status":"stored","bytes":' .. #data.value .. ',"ttl":null,"source":"inline"}]}'
ngx.header.content_length = #body
ngx.print(body)
