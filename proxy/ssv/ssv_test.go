package ssv

import (
	"bytes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// vectors were made with Python's hmac and with openssl enc, from the text of RFC 8881 §2.10.9: the SSV is 1, 2, 3 and so on as
// long as the hash; the sealed message is that of the section's example, 48 bytes with a confounder of three.
var vectors = []struct {
	hash   *hashAlg
	cipher *cipherAlg
	digest string // the client's, under the first SSV
	answer string // the server's, under the second one
	mic    string // the client's
	sealed string
}{
	{sha256Alg, aes256Alg,
		"88e43f200155250732091233dbc99d9b613b7283d1dae4733d45535009aad45e",
		"22d595f371cc0294cab7f1699a8d563088f44b3b074b3f42318aaf768082fcae",
		"0000000100000020697c709edcf2824198e01880fbd394cded1924c0711578aa7fb2405cb07c62be",
		"0000000100000010000102030405060708090a0b0c0d0e0f00000030a6b9d060bdb4e7a5514cde1d5398b1d9893dd79c831b1e6207ff0f578bda628b98d0cb8ecbabee2e049d3cdb8192e28c00000020acdcf80327b16da60a38adfbb7108df282186227065e9ca8e6b6bcf6b97326b1"},
	{sha512Alg, aes128Alg,
		"bb2b53bd98202c11f6cfbdb75dafbf2736d806b4431c304494d9cdf0558fb45d2d5293df07617e90a487118495fd93d7b6e1a46b3d7bd3ba0a3c5eebc6a987c7",
		"23d4a7574fe891c60fc2744abbde99428c01ab215f92f3be45809e6c5e1da50560a354df0d5a05e83aa56c11ce2418e1b211906710f784758cf3529a03bfc8b4",
		"00000001000000402b8c7ee4c59ef0a84c06e7d50333ce2bba4fc810caaa55b403fc872fe533bb2db33bc822644b6a30b21ec321c18087f9f4102189b30d9d81058acf65f49ad7b6",
		"0000000100000010000102030405060708090a0b0c0d0e0f0000003002c19460fd311139c9e986ed6d09e18542e2c45ad4a5380b6af987448de2e78bc5d22e58f98eb1a17068b1530998f8d700000040b4d537722fd4b279d10bee5a85a97700b9d2accf3ece030cf13522706ba64b1209beb90828ba609cdaf627ebaa6cdcceb248f130996615d1b859fa938d1fcdd9"},
	{sha1Alg, aes128Alg,
		"1bf163db20b3e0e50eb664a563e775bf92ca59be",
		"6cca7336bd1cda1389e2ca6ea5ce79041aca45b1",
		"0000000100000014ec6ac3841f8ae05c0c699c29e7ee4f7ca1d5e5de",
		"0000000100000010000102030405060708090a0b0c0d0e0f000000302205f2c371b5a5e786597b00686fd5be55e7ce2a5a99f2d54fad6c6cb3c83f3fffe2f42e4efb9905db71d9f9db1c0999000000143427774edd30a9a2b03ea8bee2251ba58ea5fefb"},
	{sha384Alg, aes192Alg,
		"165af13230c7d5b937261b286738026612fefc069de1ecb9d724056ce28f01ce540ebd7e928bd1d610a1f3dabc0ed9ad",
		"7bb7f6c41e263867d7d2bda72531e71fcfbf04f15d3b0baef63bab30f8053bc98fd62c1ae0f1f8cacfe1ece7919e0fad",
		"0000000100000030a8cb635b11eaa58875fe877f7163f9ce31458f801e584156762367b2ec09a7b659921fc6b3240541c5e08421b9d4c7c7",
		"0000000100000010000102030405060708090a0b0c0d0e0f00000030bf2bd8c549074b302a8b54f840fbefe097f50e9e1d7ed9a99fd8f8a49b6858f4bffd0334913d845a720ad19acef5121a00000030be18ac49b798e4ebcd86381378add1ed805a430ae8a609369e4e070a9a4c469f2e0ec1647e286c10813943a6abd298cf"},
}

const (
	vectorInput   = "arguments of SEQUENCE 0123456789"
	vectorResult  = "result"
	vectorMessage = "fifteen bytes !"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// counting is 1, 2, 3 and so on.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		suite := Suite{v.hash, v.cipher}
		server, client := New(suite, 2, Server), New(suite, 2, Client)
		if got := client.Digest([]byte(vectorInput)); hex.EncodeToString(got) != v.digest {
			t.Errorf("the client's digest is %x", got)
		}
		answer, err := server.Set(counting(suite.SSVBytes()), []byte(vectorInput), unhex(t, v.digest), []byte(vectorResult))
		if err != nil || hex.EncodeToString(answer) != v.answer {
			t.Fatalf("the answer is %x, %v", answer, err)
		}
		if err := client.Change(counting(suite.SSVBytes())); err != nil {
			t.Fatal(err)
		}
		if got, _ := client.AppendMIC(nil, []byte(vectorMessage)); hex.EncodeToString(got) != v.mic {
			t.Errorf("the client's MIC is %x", got)
		}
		if !server.VerifyMIC([]byte(vectorMessage), unhex(t, v.mic)) {
			t.Error("the server does not take it")
		}
		if got, ok := server.Unseal(unhex(t, v.sealed)); !ok || string(got) != vectorMessage {
			t.Errorf("unsealed %q, %v", got, ok)
		}
	}
}

// pair is a server and a client with n versions of an SSV between them.
func pair(t testing.TB, suite Suite, window, n int) (server, client *Context) {
	t.Helper()
	server, client = New(suite, window, Server), New(suite, window, Client)
	for i := range n {
		advance(t, server, client, byte(i+1))
	}
	return server, client
}

func advance(t testing.TB, server, client *Context, with byte) {
	t.Helper()
	change := bytes.Repeat([]byte{with | 0x80}, client.Suite().SSVBytes())
	change[0] = with
	answer, err := server.Set(change, []byte("in"), client.Digest([]byte("in")), []byte("out"))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Change(change); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(answer, server.Digest([]byte("out"))) {
		t.Error("the answer is not under the new SSV")
	}
}

func seal(t testing.TB, c *Context, message []byte) []byte {
	t.Helper()
	at, total := c.SealedBytes(len(message))
	token := bytes.Repeat([]byte{0xee}, total)
	copy(token[at:], message)
	if !c.Seal(token, len(message)) {
		t.Fatal("not sealed")
	}
	return token
}

func TestTokens(t *testing.T) {
	for _, suite := range suites {
		server, client := pair(t, suite, 4, 1)
		for _, way := range [][2]*Context{{client, server}, {server, client}} {
			from, to := way[0], way[1]
			for n := range 70 {
				message := counting(n)
				mic, _ := from.AppendMIC(nil, message)
				if len(mic) != from.MICBytes() || !to.VerifyMIC(message, mic) {
					t.Fatalf("the MIC of %d bytes, %d long, is not taken", n, len(mic))
				}
				token := seal(t, from, message)
				if bytes.Contains(token, message) && n > 3 {
					t.Errorf("%d bytes stand in what is sealed", n)
				}
				if got, ok := to.Unseal(bytes.Clone(token)); !ok || !bytes.Equal(got, message) {
					t.Fatalf("unsealed %x, %v", got, ok)
				}
				if from.VerifyMIC(message, mic) {
					t.Fatal("who has made a token takes it as the other's")
				}
				if _, ok := from.Unseal(token); ok {
					t.Fatal("who has sealed a token takes it as the other's")
				}
			}
		}
	}
}

// No bit of a token can be another.
func TestTokensAltered(t *testing.T) {
	server, client := pair(t, suites[0], 4, 2)
	message := []byte("message")
	mic, _ := client.AppendMIC(nil, message)
	token := seal(t, client, message)
	for i := range 8 * len(mic) {
		bad := bytes.Clone(mic)
		bad[i/8] ^= 1 << (i % 8)
		if server.VerifyMIC(message, bad) {
			t.Errorf("bit %d of a MIC does not matter", i)
		}
	}
	for i := range 8 * len(token) {
		bad := bytes.Clone(token)
		bad[i/8] ^= 1 << (i % 8)
		if _, ok := server.Unseal(bad); ok {
			t.Errorf("bit %d of a sealed message does not matter", i)
		}
	}
	for n := range len(token) {
		if _, ok := server.Unseal(bytes.Clone(token[:n])); ok || n < len(mic) && server.VerifyMIC(message, mic[:n]) {
			t.Errorf("a token cut to %d bytes is taken", n)
		}
	}
	if server.VerifyMIC([]byte("massage"), mic) || server.VerifyMIC(message, append(mic, 0, 0, 0, 0)) {
		t.Error("a MIC of something else is taken")
	}
}

func TestVersions(t *testing.T) {
	server, client := New(suites[0], 3, Server), New(suites[0], 3, Client)
	if _, ok := client.AppendMIC(nil, nil); ok || client.Established() {
		t.Error("there are tokens of an SSV that everybody knows")
	}
	if _, total := client.SealedBytes(0); client.Seal(make([]byte, total), 0) {
		t.Error("something is sealed with an SSV that everybody knows")
	}
	var mics, sealed [][]byte
	for i := range 5 {
		advance(t, server, client, byte(i+1))
		mic, _ := client.AppendMIC(nil, []byte("m"))
		mics, sealed = append(mics, mic), append(sealed, seal(t, client, []byte("m")))
	}
	for i, want := range []bool{false, false, true, true, true} {
		_, ok := server.Unseal(sealed[i])
		if got := server.VerifyMIC([]byte("m"), mics[i]); got != want || ok != want {
			t.Errorf("version %d: MIC %v, sealed %v", i+1, got, ok)
		}
	}
	ahead := New(suites[0], 3, Client)
	for i := range 6 {
		_ = ahead.Change(bytes.Repeat([]byte{byte(i + 1)}, 32))
	}
	if mic, _ := ahead.AppendMIC(nil, []byte("m")); server.VerifyMIC([]byte("m"), mic) {
		t.Error("a version that is yet to come is taken")
	}
}

func TestSetRefuses(t *testing.T) {
	server, client := pair(t, suites[0], 3, 1)
	ssv := bytes.Repeat([]byte{0x81}, 32)
	ssv[0] = 1
	good := client.Digest([]byte("in"))
	for _, c := range []struct {
		name           string
		change, digest []byte
		want           error
	}{
		{"another digest", ssv, good[:31], ErrDigest},
		{"its own digest", ssv, server.Digest([]byte("in")), ErrDigest},
		{"no digest", ssv, nil, ErrDigest},
		{"zero", make([]byte, 32), good, ErrValue},
		{"what makes it zero", ssv, good, ErrValue},
		{"too short", ssv[:31], good, ErrValue},
		{"too long", append(bytes.Clone(ssv), 1), good, ErrValue},
		{"nothing", nil, good, ErrValue},
	} {
		if _, err := server.Set(c.change, []byte("in"), c.digest, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if mic, _ := client.AppendMIC(nil, nil); !server.VerifyMIC(nil, mic) {
		t.Error("what was refused has changed the SSV")
	}
	if client.Change(make([]byte, 32)) == nil {
		t.Error("zero is taken from oneself")
	}
}

func TestChoose(t *testing.T) {
	oids := func(list ...[]byte) [][]byte { return list }
	bare := sha256Alg.oid[2:]
	for _, c := range []struct {
		name            string
		hashes, ciphers [][]byte
		want            Suite
		hash, cipher    int
		err             error
	}{
		{"pynfs", oids(sha256Alg.oid, sha1Alg.oid), oids([]byte("giberrish_oid"), aes256Alg.oid), Suite{sha256Alg, aes256Alg}, 0, 1, nil},
		{"the best", oids(sha1Alg.oid, sha512Alg.oid, sha256Alg.oid), oids(aes128Alg.oid, aes256Alg.oid), Suite{sha256Alg, aes256Alg}, 2, 1, nil},
		{"without tag and length", oids(bare), oids(aes192Alg.oid[2:]), Suite{sha256Alg, aes192Alg}, 0, 0, nil},
		{"SHA-1", oids(sha1Alg.oid), oids(aes256Alg.oid, aes192Alg.oid, aes128Alg.oid), Suite{sha1Alg, aes128Alg}, 0, 2, nil},
		{"not what must not be", oids(sha1Alg.oid, sha224Alg.oid), oids(aes256Alg.oid), Suite{}, 0, 0, ErrHash},
		{"not with SHA-1 and 192", oids(sha1Alg.oid), oids(aes192Alg.oid), Suite{}, 0, 0, ErrHash},
		{"what should not be, if there is nothing else", oids(sha512Alg.oid), oids(aes128Alg.oid), Suite{sha512Alg, aes128Alg}, 0, 0, nil},
		{"unknown hash", oids([]byte("md5")), oids(aes256Alg.oid), Suite{}, 0, 0, ErrHash},
		{"unknown cipher", oids(sha256Alg.oid), oids([]byte("des"), nil), Suite{}, 0, 0, ErrCipher},
		{"nothing", nil, nil, Suite{}, 0, 0, ErrHash},
	} {
		got, hash, cipher, err := Choose(c.hashes, c.ciphers)
		if got != c.want || err != c.err || err == nil && (hash != c.hash || cipher != c.cipher) {
			t.Errorf("%s: %v, %d and %d, %v", c.name, got, hash, cipher, err)
		}
	}
	for _, h := range []*hashAlg{sha1Alg, sha224Alg, sha256Alg, sha384Alg, sha512Alg} {
		if h.new().Size() != h.bytes {
			t.Errorf("%x has %d bytes", h.oid, h.bytes)
		}
	}
	for _, s := range suites {
		if s.hash.bytes < s.cipher.keyBytes {
			t.Errorf("%x is too short for %x", s.hash.oid, s.cipher.oid)
		}
	}
}

func TestWindow(t *testing.T) {
	var w Window
	for _, c := range []struct {
		number uint32
		want   bool
	}{
		{1000, true}, {1000, false}, {999, true}, {999, false}, {745, true}, {744, false}, {0, false},
		{1001, true}, {745, false}, {746, true}, {1255, true}, {1001, false}, {1000, false}, {1002, true},
		{1002, false}, {5000, true}, {1255, false}, {4745, true}, {4745, false}, {4744, false}, {4999, true}, {1 << 31, true},
	} {
		if got := w.Accept(c.number); got != c.want {
			t.Errorf("%d: %v", c.number, got)
		}
	}
	var all Window
	for n := range uint32(3 * WindowLen) {
		if !all.Accept(n) || all.Accept(n) {
			t.Fatalf("%d is not taken once", n)
		}
	}
}

// What is no token is none, whatever lengths it says that its parts have.
func TestTokensMalformed(t *testing.T) {
	server, client := pair(t, suites[0], 4, 1)
	zero := New(suites[0], 4, Server)
	known := suites[0].micOf(zero.versions[0].mic[Client], 0, []byte("m"))
	if zero.VerifyMIC([]byte("m"), append([]byte{0, 0, 0, 0, 0, 0, 0, 32}, known...)) {
		t.Error("a MIC with an SSV that everybody knows is taken")
	}
	token := seal(t, client, []byte("message"))
	k := client.versions[0]
	sealed := func(iv, plain []byte) []byte {
		sum := suites[0].hmac(k.mic[Client], plain)
		if len(iv) == ivBytes && len(plain)%ivBytes == 0 {
			cipher.NewCBCEncrypter(suites[0].block(k.seal[Client]), iv).CryptBlocks(plain, plain)
		}
		e := xdr.NewEncoder(make([]byte, 0, 500))
		e.Uint32(1)
		e.Opaque(iv)
		e.Opaque(plain)
		e.Opaque(sum)
		return e.Bytes()
	}
	body := func(version byte, behind ...byte) []byte {
		return append([]byte{0, 0, 0, 0, 0, 0, 0, version, 0, 0, 0, 0}, behind...)
	}
	iv := make([]byte, ivBytes)
	if got, ok := server.Unseal(sealed(iv, body(1, 0, 0, 0, 0))); !ok || len(got) != 0 {
		t.Errorf("nothing, sealed, is %x, %v", got, ok)
	}
	for name, b := range map[string][]byte{
		"no vector":                 sealed(nil, body(1, 0, 0, 0, 0)),
		"short vector":              sealed(iv[:12], body(1, 0, 0, 0, 0)),
		"not whole blocks":          sealed(iv, body(1)),
		"nothing encrypted":         sealed(iv, nil),
		"another version inside":    sealed(iv, body(2, 0, 0, 0, 0)),
		"something behind the rest": sealed(iv, body(1, make([]byte, 20)...)),
		"parts longer than it is":   sealed(iv, body(1, 0xff, 0xff, 0xff, 0xff)),
		"something behind it":       append(bytes.Clone(token), 0, 0, 0, 0),
	} {
		if _, ok := server.Unseal(b); ok {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// FuzzTokens: nothing that is no token is taken, and nothing makes a Context fall over.
func FuzzTokens(f *testing.F) {
	server, client := pair(f, suites[0], 4, 2)
	mic, _ := client.AppendMIC(nil, []byte("message"))
	token := seal(f, client, []byte("message"))
	f.Add(mic)
	f.Add(token)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if server.VerifyMIC([]byte("message"), b) && !bytes.Equal(b, mic) {
			t.Errorf("%x is taken as a MIC", b)
		}
		if got, ok := server.Unseal(bytes.Clone(b)); ok && string(got) != "message" { // all that was ever sealed
			t.Errorf("%x is taken as a sealed message", b)
		}
	})
}
