"""Declarations of the geo commands.

A command that stores what it finds needs memory for members that its arguments do not name, so it is one of those that
grow (kvstore/commands/rows.py).
"""

from kvstore.commands import refcounts, rows
from kvstore.commands.declaration import Command, Family

_geo = Family("geo", "kvstore.commands.geo")
_UNIT = "<M | KM | FT | MI>"
_SHOWN = "[WITHCOORD] [WITHDIST] [WITHHASH]"
_LIMITED = "[COUNT count [ANY]]"
_ORDERED = "[ASC | DESC]"
_STORED = "[STORE key] [STOREDIST key]"
_AREA = (
    f"<FROMMEMBER member | FROMLONLAT longitude latitude> <<BYRADIUS radius {_UNIT}> | <BYBOX width height {_UNIT}>>"
)
_POSITION, _RADIUS = "longitude:double latitude:double", "radius:double"
_COST = "O(N+log(M)) with N the members of the cells around the area, and M those of the sorted set"
_UPPER_CASE = ("7.0.0", "Added support for uppercase unit names.")
_ANY = ("6.2.0", "Added the `ANY` option for `COUNT`.")

COMMANDS = (
    Command(
        _geo,
        "GEOADD key [NX | XX] [CH] <longitude latitude member> ...",
        "Adds members with their positions to a sorted set, or moves those that it has.",
        since="3.2.0",
        cost="O(log(N)) a member with N the members of the sorted set",
        flags="write denyoom",
        keys="RW update",
        groups="condition longitude_latitude_member",
        types=_POSITION,
        names="CH:change",
        added="condition:6.2.0 CH:6.2.0",
        history=(("6.2.0", "Added the `CH`, `NX` and `XX` options."),),
        kernel="writing:geoadd",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _geo,
        "GEODIST key member1 member2 [M | KM | FT | MI]",
        "Answers the distance of two members.",
        since="3.2.0",
        cost="O(log(N)) with N the members of the sorted set",
        flags="readonly",
        keys="RO access",
        groups="unit",
        kernel="reading:geodist",
    ),
    Command(
        _geo,
        "GEOHASH key member [member ...]",
        "Answers the positions of members as geohashes, as others write them.",
        since="3.2.0",
        cost="O(log(N)) a member with N the members of the sorted set",
        flags="readonly",
        keys="RO access",
        arity=-2,
        kernel="reading:geohash",
    ),
    Command(
        _geo,
        "GEOPOS key member [member ...]",
        "Answers the longitudes and latitudes of members.",
        since="3.2.0",
        cost="O(N) with N the number of members given",
        flags="readonly",
        keys="RO access",
        arity=-2,
        kernel="reading:geopos",
    ),
    Command(
        _geo,
        f"GEORADIUS key longitude latitude radius {_UNIT} {_SHOWN} {_LIMITED} {_ORDERED} {_STORED}",
        "Answers or stores the members within a distance of a position.",
        since="3.2.0",
        cost=_COST,
        flags="write denyoom",
        keys=("RO access", "OW update", "OW update"),
        groups="unit count order",
        types=f"{_POSITION} {_RADIUS}",
        added="ANY:6.2.0",
        history=(_ANY, _UPPER_CASE),
        deprecated=("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument"),
        loop=rows.GROWS,
        kernel="searching:georadius",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _geo,
        f"GEORADIUS_RO key longitude latitude radius {_UNIT} {_SHOWN} {_LIMITED} {_ORDERED}",
        "Answers the members within a distance of a position.",
        since="3.2.10",
        cost=_COST,
        flags="readonly",
        keys="RO access",
        groups="unit count order",
        types=f"{_POSITION} {_RADIUS}",
        added="ANY:6.2.0",
        history=(_ANY,),
        deprecated=("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument"),
        kernel="searching:georadius_ro",
    ),
    Command(
        _geo,
        f"GEORADIUSBYMEMBER key member radius {_UNIT} {_SHOWN} {_LIMITED} {_ORDERED} {_STORED}",
        "Answers or stores the members within a distance of a member.",
        since="3.2.0",
        cost=_COST,
        flags="write denyoom",
        keys=("RO access", "OW update", "OW update"),
        groups="unit count order",
        types=_RADIUS,
        history=(_UPPER_CASE,),
        deprecated=("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments"),
        loop=rows.GROWS,
        kernel="searching:georadiusbymember",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _geo,
        f"GEORADIUSBYMEMBER_RO key member radius {_UNIT} {_SHOWN} {_LIMITED} {_ORDERED}",
        "Answers the members within a distance of a member.",
        since="3.2.10",
        cost=_COST,
        flags="readonly",
        keys="RO access",
        groups="unit count order",
        types=_RADIUS,
        deprecated=("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"),
        kernel="searching:georadiusbymember_ro",
    ),
    Command(
        _geo,
        f"GEOSEARCH key {_AREA} {_ORDERED} {_LIMITED} {_SHOWN}",
        "Answers the members within a circle or a box.",
        since="6.2.0",
        cost=_COST,
        flags="readonly",
        keys="RO access",
        groups="from longitude_latitude by circle unit box unit order count",
        types=f"{_POSITION} {_RADIUS} width:double height:double",
        history=(_UPPER_CASE,),
        kernel="searching:geosearch",
    ),
    Command(
        _geo,
        f"GEOSEARCHSTORE destination source {_AREA} {_ORDERED} {_LIMITED} [STOREDIST]",
        "Stores the members within a circle or a box.",
        since="6.2.0",
        cost=_COST,
        flags="write denyoom",
        keys=("OW update", "RO access"),
        groups="from longitude_latitude by circle unit box unit order count",
        types=f"destination:key source:key {_POSITION} {_RADIUS} width:double height:double",
        history=(_UPPER_CASE,),
        loop=rows.GROWS,
        kernel="searching:geosearchstore",
        keeps=refcounts.MAKES_VALUE,
    ),
)
