package uploads

import "strings"

// word is a name or keyword of a body, which come again and again, and what it
// stands for.
type word struct {
	quoted       string // its JSON text
	text, unheld string // as of unquote
	field        entryField
	kind         Kind // 0 for a word that is no operation's
}

// vocabulary knows the words of a body, and of those that its decoder read
// before. Entries mostly have the same ones in the same order, so that each word
// is first compared with the one that stood in its place in the entry before.
type vocabulary struct {
	words map[string]*word // by their JSON text
	order []*word          // of the entry before, as far as the present one agrees
	next  int              // place in order
	size  int              // of all words that were made, in bytes
}

// maxWords bounds the vocabulary: a body of nothing but names is no reason to
// remember them.
const maxWords = 1000

func (v *vocabulary) startEntry() { v.next = 0 }

// word returns what a JSON string stands for.
func (v *vocabulary) word(quoted []byte) *word {
	place := v.next
	v.next++
	if place < len(v.order) && v.order[place].quoted == string(quoted) {
		return v.order[place]
	}
	w := v.words[string(quoted)]
	if w == nil {
		w = newWord(string(quoted))
		v.size += len(quoted)
		if v.words == nil {
			v.words = make(map[string]*word, 32)
		}
		if len(v.words) < maxWords {
			v.words[w.quoted] = w
		}
	}
	if place < maxWords {
		v.order = append(v.order[:min(place, len(v.order))], w)
	}
	return w
}

func newWord(quoted string) *word {
	w := &word{quoted: quoted}
	w.text, w.unheld = unquote([]byte(quoted))
	w.field = entryFieldOf(w.text)
	for _, k := range [...]Kind{Put, Patch, Delete} {
		if strings.EqualFold(w.text, k.String()) {
			w.kind = k
		}
	}
	return w
}
