package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
)

// minRSABits is the least modulus of an RSA key (RFC 7518, section 3.3).
const minRSABits = 2048

// newAsymmetricKey returns a key whose private half is one of go-jose's types.
// Its id is checked by newKey.
func newAsymmetricKey(id string, private any) (Key, error) {
	var alg string
	var s scheme
	switch private := private.(type) {
	case ed25519.PrivateKey:
		alg, s = "EdDSA", edDSA(private)
	case *ecdsa.PrivateKey:
		if private.Curve != elliptic.P256() {
			return Key{}, errors.New("its curve (crv) is not P-256, the one of ES256")
		}
		alg, s = "ES256", es256(private)
	case *rsa.PrivateKey:
		if bits := private.N.BitLen(); bits < minRSABits {
			return Key{}, fmt.Errorf("its modulus (n) has %d bits, RS256 needs at least %d", bits, minRSABits)
		}
		alg, s = "RS256", rs256(private)
	default:
		return Key{}, errors.New("it lacks its private half (d), without which nothing can be signed")
	}
	public := private.(crypto.Signer).Public() //nolint:forcetypeassert // all three are
	s.jwk = func() []byte { return writeJWK(id, alg, public) }
	// The halves may not belong together: go-jose does not look, for ES256.
	trial := []byte("ferry")
	if signature, err := s.sign(trial); err != nil || !s.verifies(trial, signature) {
		return Key{}, errors.New("its private half (d) does not belong to its public half")
	}
	return newKey(id, alg, s)
}

// edDSA is RFC 8037, section 3.1, with Ed25519.
func edDSA(private ed25519.PrivateKey) scheme {
	public := private.Public().(ed25519.PublicKey) //nolint:forcetypeassert // it is always one
	return scheme{
		size:     ed25519.SignatureSize,
		sign:     func(text []byte) ([]byte, error) { return ed25519.Sign(private, text), nil },
		verifies: func(text, signature []byte) bool { return ed25519.Verify(public, text, signature) },
	}
}

// es256 is RFC 7518, section 3.4: the signature is two numbers of 32 bytes.
func es256(private *ecdsa.PrivateKey) scheme {
	const half = 32
	return scheme{
		size: 2 * half,
		sign: func(text []byte) ([]byte, error) {
			hash := sha256.Sum256(text)
			r, s, err := ecdsa.Sign(rand.Reader, private, hash[:])
			if err != nil {
				return nil, err
			}
			signature := make([]byte, 2*half)
			r.FillBytes(signature[:half])
			s.FillBytes(signature[half:])
			return signature, nil
		},
		verifies: func(text, signature []byte) bool {
			if len(signature) != 2*half {
				return false
			}
			hash := sha256.Sum256(text)
			r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
			return ecdsa.Verify(&private.PublicKey, hash[:], r, s)
		},
	}
}

// rs256 is RFC 7518, section 3.3.
func rs256(private *rsa.PrivateKey) scheme {
	private.Precompute() // a key that was read lacks what makes signing fast
	return scheme{
		size: private.Size(),
		sign: func(text []byte) ([]byte, error) {
			hash := sha256.Sum256(text)
			return rsa.SignPKCS1v15(nil, private, crypto.SHA256, hash[:])
		},
		verifies: func(text, signature []byte) bool {
			hash := sha256.Sum256(text)
			return rsa.VerifyPKCS1v15(&private.PublicKey, crypto.SHA256, hash[:], signature) == nil
		},
	}
}
