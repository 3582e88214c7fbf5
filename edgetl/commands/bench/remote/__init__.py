"""`edgetl bench --on`: a board over ssh, a phone over adb."""
