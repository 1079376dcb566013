package postgres

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"ferry/internal/uploads"
)

// divisionByZero is how statements raise that did not do all that was expected of
// them, so that the COMMIT on its way behind them does nothing.
const divisionByZero = "22012"

// isTransient is whether an error may go away by itself, so that it is never a
// verdict on what the client sent. Everything that is no answer of the server
// is: the network failed.
//
// Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes".
func isTransient(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	// What the app raises on purpose is its verdict, whatever SQLSTATE it
	// chose, or it could block a client for ever; only class 40 asks for a
	// repetition.
	if raisedByApp(pgErr) && !strings.HasPrefix(pgErr.Code, "40") {
		return false
	}
	switch pgErr.Code {
	case "26000", "42P05", // a pooler swapped the connection under a prepared statement
		"55P03",          // lock not available
		"XX001", "XX002": // corrupted data or index
		return true
	case "0A000":
		return strings.Contains(pgErr.Message, "cached plan") || isStandby(err)
	}
	switch pgErr.Code[:min(2, len(pgErr.Code))] {
	case "08", // connection
		"25", // transaction state, a read-only standby among them
		"28", // ferry's own login
		"40", // serialization failure, deadlock
		"53", // resources
		"57", // operator intervention, statement_timeout
		"58": // system
		return true
	}
	return false
}

// isWorthRepeating is whether the same transaction may well succeed at once.
func isWorthRepeating(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	return strings.HasPrefix(pgErr.Code, "40") || pgErr.Code == "26000" || pgErr.Code == "42P05" ||
		(pgErr.Code == "0A000" && isTransient(err) && !isStandby(err))
}

// misunderstood are what Postgres says of a statement that does not fit its table:
// another type, no such column or table, no unique index for ON CONFLICT, a column
// that has become a generated one.
var misunderstood = []string{"42804", "42883", "42703", "42P01", "42P10", "428C9"}

// mayBeOutOfDate is whether a statement may have failed because its table is no
// longer what the catalog was read as: by isCurrent, or before that was asked.
func mayBeOutOfDate(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	isOfApp := ok && pgErr.Where != "" // within a function or trigger
	return hasSQLState(err, outOfDate) || (!isOfApp && hasSQLState(err, misunderstood...))
}

// refusalOf turns the error of a client transaction that was tried alone into
// what the client is told. Only the primary message goes out: DETAIL may show
// other rows' values.
func refusalOf(pgErr *pgconn.PgError) uploads.Refusal {
	r := uploads.Refusal{
		Code:       codeOf(pgErr),
		SQLState:   pgErr.Code,
		Constraint: pgErr.ConstraintName,
		Column:     pgErr.ColumnName,
		Message:    pgErr.Message,
	}
	if r.Message == "" {
		r.Message = r.Code
	}
	if raisedByApp(pgErr) && pgErr.Hint != "" {
		r.Message += " (" + pgErr.Hint + ")"
	}
	r.Message = sendable(r.Message)
	return r
}

// refusalOf adds what only the run knows.
func (r *run) refusalOf(pgErr *pgconn.PgError) uploads.Refusal {
	refusal := refusalOf(pgErr)
	if pgErr.Code == "22P02" && strings.Contains(pgErr.Message, `"`+r.caller.UserID+`"`) {
		refusal.Message += " (a policy or default reads the user id as a type that it is not of)"
	}
	return refusal
}

func codeOf(pgErr *pgconn.PgError) string {
	if name := conditionNames[pgErr.Code]; name != "" {
		return name
	}
	switch {
	case pgErr.Code == "42501":
		return uploads.CodeForbidden
	case pgErr.Where != "" && strings.HasPrefix(pgErr.Code, "42"): // within a function of the app's
		return uploads.CodeInternalError
	case pgErr.Code == "42P01":
		return uploads.CodeUnknownTable
	case pgErr.Code == "42703":
		return uploads.CodeUnknownColumn
	case strings.HasPrefix(pgErr.Code, "22"):
		return "data_exception"
	case strings.HasPrefix(pgErr.Code, "23"):
		return "integrity_constraint_violation"
	case strings.HasPrefix(pgErr.Code, "54"): // an id too long for its index, among others
		return uploads.CodeTooLarge
	case raisedByApp(pgErr):
		return uploads.CodeRaiseException
	}
	return uploads.CodeInternalError
}

// raisedByApp is whether a function or trigger of the app raised the error on
// purpose: PL/pgSQL's RAISE names its own C function as the origin.
func raisedByApp(pgErr *pgconn.PgError) bool {
	return pgErr.Code == "P0001" || pgErr.Routine == "exec_stmt_raise"
}

// conditionNames are the condition names of SQLSTATE classes 22 and 23.
//
// Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes".
var conditionNames = map[string]string{
	"22000": "data_exception",
	"2202E": "array_subscript_error",
	"22021": "character_not_in_repertoire",
	"22008": "datetime_field_overflow",
	"22012": "division_by_zero",
	"22005": "error_in_assignment",
	"2200B": "escape_character_conflict",
	"22022": "indicator_overflow",
	"22015": "interval_field_overflow",
	"2201E": "invalid_argument_for_logarithm",
	"22014": "invalid_argument_for_ntile_function",
	"22016": "invalid_argument_for_nth_value_function",
	"2201F": "invalid_argument_for_power_function",
	"2201G": "invalid_argument_for_width_bucket_function",
	"22018": "invalid_character_value_for_cast",
	"22007": "invalid_datetime_format",
	"22019": "invalid_escape_character",
	"2200D": "invalid_escape_octet",
	"22025": "invalid_escape_sequence",
	"22P06": "nonstandard_use_of_escape_character",
	"22010": "invalid_indicator_parameter_value",
	"22023": "invalid_parameter_value",
	"22013": "invalid_preceding_or_following_size",
	"2201B": "invalid_regular_expression",
	"2201W": "invalid_row_count_in_limit_clause",
	"2201X": "invalid_row_count_in_result_offset_clause",
	"2202H": "invalid_tablesample_argument",
	"2202G": "invalid_tablesample_repeat",
	"22009": "invalid_time_zone_displacement_value",
	"2200C": "invalid_use_of_escape_character",
	"2200G": "most_specific_type_mismatch",
	"22004": "null_value_not_allowed",
	"22002": "null_value_no_indicator_parameter",
	"22003": "numeric_value_out_of_range",
	"2200H": "sequence_generator_limit_exceeded",
	"22026": "string_data_length_mismatch",
	"22001": "string_data_right_truncation",
	"22011": "substring_error",
	"22027": "trim_error",
	"22024": "unterminated_c_string",
	"2200F": "zero_length_character_string",
	"22P01": "floating_point_exception",
	"22P02": "invalid_text_representation",
	"22P03": "invalid_binary_representation",
	"22P04": "bad_copy_file_format",
	"22P05": "untranslatable_character",
	"2200L": "not_an_xml_document",
	"2200M": "invalid_xml_document",
	"2200N": "invalid_xml_content",
	"2200S": "invalid_xml_comment",
	"2200T": "invalid_xml_processing_instruction",
	"22030": "duplicate_json_object_key_value",
	"22031": "invalid_argument_for_sql_json_datetime_function",
	"22032": "invalid_json_text",
	"22033": "invalid_sql_json_subscript",
	"22034": "more_than_one_sql_json_item",
	"22035": "no_sql_json_item",
	"22036": "non_numeric_sql_json_item",
	"22037": "non_unique_keys_in_a_json_object",
	"22038": "singleton_sql_json_item_required",
	"22039": "sql_json_array_not_found",
	"2203A": "sql_json_member_not_found",
	"2203B": "sql_json_number_not_found",
	"2203C": "sql_json_object_not_found",
	"2203D": "too_many_json_array_elements",
	"2203E": "too_many_json_object_members",
	"2203F": "sql_json_scalar_required",
	"2203G": "sql_json_item_cannot_be_cast_to_target_type",
	"23000": "integrity_constraint_violation",
	"23001": "restrict_violation",
	"23502": "not_null_violation",
	"23503": "foreign_key_violation",
	"23505": "unique_violation",
	"23514": "check_violation",
	"23P01": "exclusion_violation",
}
