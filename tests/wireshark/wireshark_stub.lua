-- As much of Wireshark's API as the plugin uses, for Lua without Wireshark: prints what is added to the tree.
-- arg: the plugin, then a file with one comment per line; an empty line is a frame without one.
base = setmetatable({}, { __index = function(_, name) return name end })
frametype, MENU_STAT_UNSORTED = base, 0
expert = { group = base, severity = base }
local function field(kind)
  return function(abbr) return { abbr = abbr, kind = kind } end
end
ProtoField = setmetatable({}, { __index = function(_, kind) return field(kind) end })
ProtoExpert = { new = function(abbr) return { abbr = abbr } end }
Pref = { bool = function(_, value) return value end }
NSTime = { new = function(seconds, nanoseconds) return string.format("%d:%09d", seconds, nanoseconds) end }

-- 64 bits in two halves, so that every Lua has them.
local Wide = {}
Wide.__index = Wide
local HALF = 4294967296
local function wide(high, low) return setmetatable({ high = high % HALF, low = low % HALF }, Wide) end
function Wide.tonumber(this) return this.high * HALF + this.low end
function Wide.__add(a, b)
  local low = a.low + b.low
  return wide(a.high + b.high + math.floor(low / HALF), low)
end
function Wide.__sub(a, b)
  local low = a.low - b.low
  return wide(a.high - b.high + math.floor(low / HALF), low)
end
function Wide.__tostring(this) return string.format("%.0f/%.0f", this.high, this.low) end
UInt64 = {
  max = function() return wide(HALF - 1, HALF - 1) end,
  new = function(value)
    if type(value) == "number" then return wide(0, value) end
    local high, low = 0, 0
    for digit in value:gmatch("%d") do
      low = low * 10 + digit
      high, low = high * 10 + math.floor(low / HALF), low % HALF
    end
    return wide(high, low)
  end,
}

local comment, number
Field = { new = function(name)
  return function()
    if name == "frame.packet_id" then return { value = wide(0, number) } end
    if comment ~= "" then return { value = comment } end
  end
end }
local plugin
Proto = function() plugin = { prefs = {} } return plugin end
Dissector = { get = function() return plugin end }
register_postdissector = function() end
gui_enabled = function() return false end

local function shown(value)
  if type(value) == "number" then return string.format("%.0f", value) end
  return tostring(value)
end
local Item = {}
Item.__index = Item
function Item.add(_, what, value)
  if what.abbr then print(number, what.abbr, shown(value)) end
  return setmetatable({}, Item)
end
function Item.append_text(_, text) print(number, "text", text) end
function Item.add_proto_expert_info(_, what, text) print(number, what.abbr, text) end
function Item.set_generated() end
function Item.referenced() return true end

-- The frame: an IPv4 TCP segment of 100 bytes from port 3260 to 40000, always the same.
local octets = ("\0"):rep(12) .. "\8\0\69\0\0\140\0\0\0\0\64\6\0\0\10\0\0\1\10\0\0\2\12\188\156\64\0\0\1\0"
octets = octets .. "\0\0\0\0\80\16\0\0\0\0\0\0" .. ("\0"):rep(100)
local Range = {}
Range.__index = Range
function Range.uint(this)
  local value = 0
  for at = 1, #this.text do value = value * 256 + this.text:byte(at) end
  return value
end
local tvb = setmetatable({
  len = function() return #octets end,
  raw = function(_, at, count) return octets:sub((at or 0) + 1, count and (at or 0) + count or -1) end,
}, { __call = function(_, at, count)
  return setmetatable({ text = octets:sub(at + 1, at + count) }, Range)
end })

assert(loadfile(arg[1]))()
plugin.init()
number = 0
for line in io.lines(arg[2]) do
  comment, number = line, number + 1
  local info = { append = function(_, text) print(number, "info", text) end }
  plugin.dissector(tvb, {
    number = number, visited = false, src = "10.0.0.1", dst = "10.0.0.2", src_port = 3260, dst_port = 40000,
    cols = { info = info },
  }, setmetatable({}, Item))
end
