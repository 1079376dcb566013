package tokens

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// open verifies a token by hand and returns its header and claims, numbers as
// json.Number.
func open(token string, secret []byte) (header, claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("%d parts", len(parts))
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, mac.Sum(nil)) {
		return nil, nil, fmt.Errorf("the signature does not verify (%v)", err)
	}
	for part, object := range map[string]*map[string]any{parts[0]: &header, parts[1]: &claims} {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			return nil, nil, err
		}
		if !jsontext.Value(text).IsValid() {
			return nil, nil, fmt.Errorf("%s is not strict JSON", text)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(object); err != nil {
			return nil, nil, err
		}
	}
	return header, claims, nil
}

// acceptedByService judges a token as the PowerSync Service was measured to: a
// missing, mistyped or excessive claim refuses it.
func acceptedByService(token string, now time.Time) error {
	header, claims, err := open(token, testSecret)
	if err != nil {
		return err
	}
	if header["alg"] != "HS256" || header["kid"] != testKeyID {
		return fmt.Errorf("header %v: PSYNC_S2101", header)
	}
	if _, found := claims["sub"]; !found {
		return fmt.Errorf("no sub: PSYNC_S2101")
	}
	iat, err1 := integer(claims["iat"])
	exp, err2 := integer(claims["exp"])
	if err1 != nil || err2 != nil {
		return fmt.Errorf("iat %v, exp %v: PSYNC_S2101", claims["iat"], claims["exp"])
	}
	if _, found := claims["nbf"]; found {
		return fmt.Errorf("nbf, which ferry never sets")
	}
	if parameters, found := claims["parameters"]; found {
		if _, object := parameters.(map[string]any); !object {
			return fmt.Errorf("parameters %v: PSYNC_S2101", parameters)
		}
	}
	if !holds(claims["aud"], testEndpoint) {
		return fmt.Errorf("aud %v: PSYNC_S2105", claims["aud"])
	}
	if exp-iat > 86_400 {
		return fmt.Errorf("exp-iat %d: PSYNC_S2104", exp-iat)
	}
	if now.Unix() > exp+60 {
		return fmt.Errorf("expired: PSYNC_S2103")
	}
	return nil
}

func integer(claim any) (int64, error) {
	n, ok := claim.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%v is no number", claim)
	}
	return n.Int64()
}

func holds(aud any, audience string) bool {
	switch aud := aud.(type) {
	case string:
		return aud == audience
	case []any:
		for _, a := range aud {
			if a == audience {
				return true
			}
		}
	}
	return false
}

// What the tests take for the service's judgement must refuse what it refuses.
func TestAcceptedByServiceRefusesWhatTheServiceDoes(t *testing.T) {
	t.Parallel()
	good := map[string]any{"sub": "u1", "aud": testEndpoint, "iat": testNow.Unix(), "exp": testNow.Unix() + 86_400}
	key, err := NewHS256Key(testKeyID, testSecret)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(changed map[string]any) string {
		claims := maps.Clone(good)
		for name, value := range changed {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return signed(t, key, string(payload))
	}
	day := testNow.Add(24 * time.Hour)
	for _, c := range []struct {
		changed map[string]any
		now     time.Time
		want    bool
	}{
		{nil, testNow, true},
		{map[string]any{"aud": []string{"x", testEndpoint}, "sub": ""}, testNow, true},
		{nil, day.Add(59 * time.Second), true},
		{nil, day.Add(61 * time.Second), false},
		{map[string]any{"sub": nil}, testNow, false},
		{map[string]any{"iat": nil}, testNow, false},
		{map[string]any{"exp": nil}, testNow, false},
		{map[string]any{"aud": nil}, testNow, false},
		{map[string]any{"aud": testEndpoint + "/"}, testNow, false},
		{map[string]any{"exp": testNow.Unix() + 86_401}, testNow, false},
		{map[string]any{"exp": fmt.Sprint(testNow.Unix() + 60)}, testNow, false},
		{map[string]any{"iat": fmt.Sprint(testNow.Unix())}, testNow, false},
		{map[string]any{"parameters": "x"}, testNow, false},
		{map[string]any{"parameters": []int{}}, testNow, false},
		{map[string]any{"parameters": 1}, testNow, false},
		{map[string]any{"parameters": map[string]any{}}, testNow, true},
	} {
		err := acceptedByService(sign(c.changed), c.now)
		if got := err == nil; got != c.want {
			t.Errorf("claims %v at %v: accepted %v (%v), want %v", c.changed, c.now, got, err, c.want)
		}
	}
	if err := acceptedByService(sign(nil)+"x", testNow); err == nil {
		t.Error("accepted a signature that does not verify")
	}
}
