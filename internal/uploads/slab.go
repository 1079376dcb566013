package uploads

// slab makes many small slices out of few large ones: one allocation for each
// operation would be most of what decoding it costs.
type slab[T any] struct {
	room []T // the last slice that was made ends where this one does
	size int // of the next large one
}

// maxSlab bounds what a slab may waste.
const maxSlab = 1024

// take returns a slice of n zero elements.
func (s *slab[T]) take(n int) []T {
	if cap(s.room)-len(s.room) < n {
		s.grow(n)
	}
	start := len(s.room)
	s.room = s.room[:start+n]
	return s.room[start : start+n : start+n]
}

// extend returns the slice that was made last, or nil, with one more element.
func (s *slab[T]) extend(last []T, element T) []T {
	if len(s.room) == cap(s.room) {
		s.grow(len(last) + 1)
		s.room = append(s.room, last...)
	}
	s.room = append(s.room, element)
	end := len(s.room)
	return s.room[end-len(last)-1 : end : end]
}

func (s *slab[T]) grow(atLeast int) {
	s.size = max(min(2*s.size, maxSlab), 2*atLeast)
	s.room = make([]T, 0, s.size)
}
