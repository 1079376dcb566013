package postgres

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// wgs84 is the SRID that PostGIS gives GeoJSON.
const wgs84 = 4326

// sridOf returns the SRID in a geometry column's type modifier, 0 if it has
// none.
//
// Source: PostGIS, liblwgeom.h, TYPMOD_GET_SRID.
func sridOf(modifier int32) int {
	return int((modifier&0x0FFFFF00 - modifier&0x10000000) >> 8)
}

// appendGeometry hands the text over as PostGIS reads it: hex EWKB, EWKT, WKT
// or GeoJSON. What names no SRID gets the column's: PostGIS takes GeoJSON for
// WGS 84, and the others for WGS 84 in a geography. It refuses another than the
// column's.
func appendGeometry(dst []byte, t *dataType, text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	switch {
	case t.srid == 0 || t.srid == wgs84 || text == "" || hexNamesSRID(text):
	case text[0] == '{':
		return appendGeoJSON(dst, t, text)
	case !strings.HasPrefix(strings.ToUpper(text), "SRID="):
		dst = append(dst, "SRID="...)
		dst = strconv.AppendInt(dst, int64(t.srid), 10)
		dst = append(dst, ';')
	}
	return append(dst, text...), nil
}

// hexNamesSRID is whether text is hex EWKB with an SRID in it: a flag in the
// geometry's type, which is four bytes behind that of the byte order.
//
// Source: PostGIS, liblwgeom.h, WKBSRIDFLAG.
func hexNamesSRID(text string) bool {
	const srid = 0x20
	if len(text) < 10 || !isDigit(text[0]) {
		return false
	}
	head, err := hex.DecodeString(text[:10])
	if err != nil {
		return false
	}
	if littleEndian := head[0] == 1; littleEndian {
		return head[4]&srid != 0
	}
	return head[1]&srid != 0
}

// appendGeoJSON adds the column's SRID to an object that names none.
func appendGeoJSON(dst []byte, t *dataType, text string) ([]byte, error) {
	object, ok := t.document(text)
	if !ok {
		return dst, invalidText(t, text)
	}
	values, err := members(object)
	if err != nil || len(values) == 0 {
		return dst, invalidText(t, text)
	}
	if crs, named := values["crs"]; named && !isNull(crs) {
		return append(dst, text...), nil
	}
	values["crs"] = json.RawMessage(fmt.Sprintf(`{"type":"name","properties":{"name":"EPSG:%d"}}`, t.srid))
	withCRS, err := json.Marshal(values)
	if err != nil {
		return dst, invalidText(t, text)
	}
	return append(dst, withCRS...), nil
}
