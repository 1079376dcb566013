package postgres

import (
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
// or GeoJSON. Text that names no SRID gets the column's: PostGIS takes GeoJSON
// for WGS 84, and WKT for WGS 84 in a geography. It refuses another than the
// column's.
func appendGeometry(dst []byte, t *dataType, text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	switch {
	case t.srid == 0 || t.srid == wgs84 || text == "" || isDigit(text[0]): // hex
	case text[0] == '{':
		return appendGeoJSON(dst, t, text)
	case !strings.HasPrefix(strings.ToUpper(text), "SRID="):
		dst = append(dst, "SRID="...)
		dst = strconv.AppendInt(dst, int64(t.srid), 10)
		dst = append(dst, ';')
	}
	return append(dst, text...), nil
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
	if _, names := values["crs"]; !names {
		dst = append(dst, `{"crs":{"type":"name","properties":{"name":"EPSG:`...)
		dst = strconv.AppendInt(dst, int64(t.srid), 10)
		dst = append(dst, `"}},`...)
		text = text[1:]
	}
	return append(dst, text...), nil
}
